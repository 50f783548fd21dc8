"""Two databases compared, a page of rows at a time: what of the one is in the other, and which of two is newer."""

import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table

from lib.database.tables import ArchivedMemory, ConversationSession, Memory, PastVersion, User
from lib.postgres._bulk import Row, among, find, pages
from lib.postgres._copied import checksum

_users, _memories, _past = User.__table__, Memory.__table__, PastVersion.__table__
_archived, _sessions = ArchivedMemory.__table__, ConversationSession.__table__
_PROGRESS = {None: 0, "pending": 1, "extracting": 1, "failed": 1, "extracted": 2}


@dataclass(frozen=True)
class Kind:
    """How the rows of a table are gone through, found in the other database, and compared."""

    name: str  # its field of `Copied`
    table: Table
    order: tuple[str, ...]  # unique together, and in this order by an index
    identity: tuple[str, ...]  # what a row is found by in the target
    is_newer: Callable[[Row, Row], bool]  # whether the first, of the target, is newer than the second, of the source
    elsewhere: Table | None = None  # where a memory with this id may be, too


ADDRESS = ("user_id", "key", "namespace")
KINDS = (
    # Nobody notes when a user's row has changed: what is said of them in the target stays.
    Kind("users", _users, ("id",), ("id",), lambda there, row: there["preferences"] not in ({}, row["preferences"])),
    Kind("memories", _memories, ADDRESS, ADDRESS, lambda t, row: t["updated_at"] > row["updated_at"], _archived),
    Kind("archived", _archived, ("user_id", "id"), ("id",), lambda t, row: _archiving(t) > _archiving(row), _memories),
    Kind("sessions", _sessions, ("user_id", "id"), ("id",), lambda there, row: _stage(there) > _stage(row)),
)


@dataclass
class Look:
    """A row of the source, and what there is of it in the target."""

    row: Row
    sum: int  # checksum of the row
    history: tuple[int, int]  # of a memory: how many earlier versions, and the sum of their checksums
    id: str  # that it has, or would get, in the target
    there: Row | None = None
    sum_there: int = 0
    history_there: tuple[int, int] = (0, 0)
    elsewhere: Row | None = None  # the same memory in the target's archive instead of among its memories, or reversed
    fate: str = "copied"


def compare(kind: Kind, connection: Connection, looks: list[Look], *, lock: bool = False) -> None:
    """Find each row in the target, and decide its fate."""
    there = _find(kind, connection, looks, lock)
    for look in looks:
        look.there = there.get(tuple(in_target(look)[name] for name in kind.identity))
        look.sum_there = 0 if look.there is None else row_sum(look.there)
    if kind.table is _memories:
        found = histories(connection, [look.there for look in looks if look.there is not None])
        for look in looks:
            look.history_there = found.get(look.there["id"], (0, 0)) if look.there else (0, 0)
    for look in looks:
        same = look.sum == look.sum_there and look.history == look.history_there
        newer = look.there is not None and kind.is_newer(look.there, look.row)
        look.fate = "already_there" if same else "kept" if newer else "replaced" if look.there else "copied"
    if kind.elsewhere is not None:
        undecided = [look for look in looks if look.fate in ("copied", "replaced")]
        elsewhere = find(connection, kind.elsewhere, ("id",), [look.row for look in undecided], lock=lock)
        for look in undecided:
            look.elsewhere = elsewhere.get((look.row["id"],))
            if look.elsewhere is not None:
                newer = look.elsewhere["updated_at"] > look.row["updated_at"]
                look.fate = "kept" if newer else "replaced"


def _find(kind: Kind, connection: Connection, looks: list[Look], lock: bool) -> dict[tuple[Any, ...], Row]:
    there = find(connection, kind.table, kind.identity, [in_target(look) for look in looks], lock=lock)
    if kind.identity == ("id",) and kind.table is not _users:
        taken = [look for look in looks if (found := there.get((look.id,))) and found["user_id"] != look.row["user_id"]]
        for look in taken:  # by somebody else's: always the same other id, so that it is found the next time
            look.id = str(uuid.uuid5(uuid.UUID(look.id), look.row["user_id"]))
        there |= find(connection, kind.table, ("id",), [in_target(look) for look in taken], lock=lock)
    return there


def earlier_versions(connection: Connection, memories: Sequence[Row]) -> Iterator[list[Row]]:
    """The earlier versions of these memories, in lists of bounded size, those of one memory in their order."""
    if not memories:
        return iter(())
    these = among(connection, _past.c.memory_id, [row["id"] for row in memories])
    owners = among(connection, _past.c.user_id, sorted({row["user_id"] for row in memories}))
    return pages(connection, _past, ("memory_id", "id"), these, owners)


def histories(connection: Connection, memories: Sequence[Row]) -> dict[str, tuple[int, int]]:
    """How many earlier versions each memory has, and the sum of their checksums, in which their order counts."""
    addresses = {row["id"]: [row[name] for name in ADDRESS] for row in memories}
    found: dict[str, tuple[int, int]] = {}
    for versions in earlier_versions(connection, memories):
        for row in versions:
            count, total = found.get(row["memory_id"], (0, 0))
            seen = [*addresses[row["memory_id"]], count, row["value"], row["written_at"], row["replaced_at"]]
            found[row["memory_id"]] = count + 1, total + checksum(seen)
    return found


def row_sum(row: Row) -> int:
    """The checksum of a row without its id: that is what it was found by, or else it may have had to be another one."""
    return checksum({name: value for name, value in row.items() if name != "id"})


def to_write(looks: list[Look]) -> list[Look]:
    """Those that the target lacks, or has an older state of."""
    return [look for look in looks if look.fate in ("copied", "replaced")]


def in_target(look: Look) -> Row:
    """The row as it stands in the target, or would."""
    return look.row if look.id == look.row["id"] else {**look.row, "id": look.id}


def _archiving(row: Row) -> tuple[Any, ...]:
    return row["archived_at"], row["updated_at"]


def _stage(row: Row) -> tuple[int, int]:
    """How far the extraction of a conversation has come."""
    return _PROGRESS.get(row["state"], 0), row["attempts"]
