"""Moving memories to another database, user by user: interrupted anywhere, it goes on; and it proves what it did."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, Table, Text, bindparam, cast, delete, func, insert, select, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import IntegrityError
from tqdm.auto import tqdm

from lib.database.tables import Base, utcnow
from lib.database.transactions import add_user, hold_user, read_transaction, write_transaction
from lib.errors import InvalidInput
from lib.records import html_table
from lib.store.values import prepare

Row = dict[str, Any]  # column -> value, JSON as the store's text; that of a memory has its earlier `versions`, too
Rows = dict[tuple[str, ...], Row]  # of one user: name in KINDS and what tells it from the others of that kind -> row

_NAMES = ("users", "memories", "memory_versions", "memory_index", "archived_memories", "sessions")
_users, _memories, _versions, _index, _archived, _sessions = (Base.metadata.tables[name] for name in _NAMES)
_DOCUMENTS = ("preferences", "value", "metadata", "transcript")  # columns that hold JSON
_OF_VERSION = ("value", "written_at", "replaced_at")
_STAGES = {None: 0, "pending": 1, "extracting": 1, "failed": 1, "extracted": 2}


class _Kind(NamedTuple):
    """A table, what tells a row from the user's others, and which of two is newer."""

    table: Table
    identity: tuple[str, ...]  # columns
    age: Callable[[Row], Any]  # larger for the newer of two rows


KINDS = {
    # Nobody notes when a user's row has changed: of two rows, the one with more in it stays.
    "users": _Kind(_users, ("id",), lambda row: len(row["preferences"])),
    "memories": _Kind(_memories, ("namespace", "key"), lambda row: row["updated_at"]),
    "archived": _Kind(_archived, ("id",), lambda row: row["updated_at"]),
    "sessions": _Kind(_sessions, ("id",), lambda row: (_STAGES[row["state"]], row["attempts"])),
}


@dataclass
class CopiedTable:
    """What became of the rows of one table."""

    in_source: int = 0  # as the database counts them after the copy
    copied: int = 0  # new in the target
    replaced: int = 0  # copied over one that was older in the target
    already_there: int = 0  # the same in the target before; nothing was written
    kept: int = 0  # not copied: the one in the target is newer, and stays
    source_checksum: int = field(default=0, repr=False)  # sum of those of the rows, without those kept
    target_checksum: int = field(default=0, repr=False)

    @property
    def verified(self) -> bool:
        """Whether no row was passed over, and all that were to be copied are in the target, to the last digit."""
        seen = self.copied + self.replaced + self.already_there + self.kept
        return seen == self.in_source and self.source_checksum == self.target_checksum


@dataclass
class Copied:
    """What `copy_memories` did, by table. In a notebook it shows as a table."""

    users: CopiedTable = field(default_factory=CopiedTable)
    memories: CopiedTable = field(default_factory=CopiedTable)  # each with its earlier versions
    archived: CopiedTable = field(default_factory=CopiedTable)
    sessions: CopiedTable = field(default_factory=CopiedTable)

    @property
    def copied(self) -> int:
        """How many rows were written to the target: those that were new in it, and those that replaced an older."""
        return sum(table.copied + table.replaced for table in vars(self).values())

    @property
    def verified(self) -> bool:
        """Whether all tables are: see `CopiedTable.verified`."""
        return all(table.verified for table in vars(self).values())

    def _repr_html_(self) -> str:
        columns = ("table", "in the source", "copied", "replaced", "already there", "kept: newer there", "checksums")
        rows = [
            (name, t.in_source, t.copied, t.replaced, t.already_there, t.kept, "equal" if t.verified else "DIFFERENT")
            for name, t in vars(self).items()
        ]
        return html_table(columns, rows)


def checksum(row: Mapping[str, Any]) -> int:
    """SHA-256 of a row without its id, which in the target may be another one; as a number.

    The sum of those of many rows is the same in whatever order they come, and from whichever database.

    >>> checksum({"id": 1, "value": "{}"}) == checksum({"id": 2, "value": "{}"})
    True
    """
    values = [(name, value) for name, value in row.items() if name != "id"]
    return int.from_bytes(hashlib.sha256(repr(values).encode()).digest())


def copy_memories(source: Engine, target: Engine, *, progress: bool = False) -> Copied:
    """Copy users, memories with their earlier versions, the archive and the conversations into another database.

    The source is only read. Values, times and ids stay what they are to the last digit. The index of the search isn't
    copied: the next search makes it. Neither are cached contents and jobs. The two databases may be of any kind; both
    need the tables. progress: show a bar.

    - A user's rows are read at one moment, and written in one transaction. Within it they are read back, and summed up
      beside those of the source: see `verified`. The rows of one user have to fit in memory.
    - Interrupted, by an error or by force, it is called again and goes on. Called again at the end, it writes nothing.
    - The target may hold memories of its own. One with the same address that is newer there stays, with its history;
      an older one is replaced, with its history. At the same time of change, the source is right. A memory that was
      archived or brought back in the source is so in the target, too, unless it is newer there.
    - What was deleted in the source after an earlier copy is not deleted in the target.
    - Others may write to both meanwhile. What they change of users whom we have been at comes with another call. So let
      the writers of the source pause for the last call, and workers that extract its conversations before the first, or
      they do it twice.

    Errors: InvalidInput (a row can't be stored), TablesMissing, DatabaseUnavailable.

    >>> from lib.database.engine import connect, create_tables
    >>> from lib.store.memory_store import MemoryStore
    >>> old, new = connect("sqlite://"), connect("sqlite://")
    >>> create_tables(old), create_tables(new)
    (None, None)
    >>> item = MemoryStore(old).put("ada", "facts", "home", {"city": "Lund"})
    >>> result = copy_memories(old, new)
    >>> result.memories.copied, result.verified
    (1, True)
    >>> copy_memories(old, new).copied
    0
    """
    report = Copied()
    user_ids: set[str] = set()
    with read_transaction(source) as connection:
        for kind in KINDS.values():
            user_ids |= set(connection.scalars(select(_owner(kind.table)).distinct()))
    for user_id in tqdm(sorted(user_ids), unit="user", desc="copying", disable=not progress):
        _copy_user(source, target, user_id, report)
    with read_transaction(source) as connection:
        for name, kind in KINDS.items():
            getattr(report, name).in_source = connection.scalar(select(func.count()).select_from(kind.table))
    return report


def _copy_user(source: Engine, target: Engine, user_id: str, report: Copied, tries: int = 5) -> None:
    """Bring the rows of one user into the target, and count what became of each."""
    with read_transaction(source) as connection:  # so that memories, their versions and the archive belong together
        rows = _read(connection, user_id)
    with read_transaction(target) as connection:
        in_target = _read(connection, user_id)
    fates = _decide(rows, in_target)
    if {"copied", "replaced"} & set(fates.values()):
        try:
            with write_transaction(target) as connection:
                fates, in_target = _write(connection, user_id, rows)
        except IntegrityError as error:
            if tries > 1:  # somebody put one of them since we looked
                return _copy_user(source, target, user_id, report, tries - 1)
            raise InvalidInput(
                f"the rows of the user {user_id!r} can't be stored in the target: {error.orig}. If it is an id that "
                "another user's row has there, give the row of the source another one."
            ) from None
    for address, fate in fates.items():
        table = getattr(report, address[0])
        setattr(table, fate, getattr(table, fate) + 1)
        if fate != "kept":
            table.source_checksum += checksum(rows[address])
            table.target_checksum += checksum(in_target[address]) if address in in_target else 0


def _decide(rows: Rows, in_target: Rows) -> dict[tuple[str, ...], str]:
    """Compare a user's rows with those of the target: copied, replaced, already_there or kept, by address."""
    by_id = {row["id"]: row for row in in_target.values()}  # what is a memory here may be archived there
    fates = {}
    for address, row in rows.items():
        age = KINDS[address[0]].age
        same = in_target.get(address)
        rivals = [rival for rival in (same, by_id.get(row["id"])) if rival]
        if same and checksum(same) == checksum(row):
            fates[address] = "already_there"
        elif any(age(rival) > age(row) for rival in rivals):
            fates[address] = "kept"
        else:
            fates[address] = "replaced" if rivals else "copied"
    return fates


def _write(connection: Connection, user_id: str, rows: Rows) -> tuple[dict[tuple[str, ...], str], Rows]:
    """Write what the target lacks in place of what is older there; return what became of all, and what is there now."""
    is_new = not hold_user(connection, user_id)  # held, as by all who write many rows
    if is_new:
        add_user(connection, user_id, utcnow())
    in_target = _read(connection, user_id, lock=True)
    if is_new:
        del in_target["users", user_id]  # that is the one we added
    fates = _decide(rows, in_target)
    new = {address: row for address, row in rows.items() if fates[address] in ("copied", "replaced")}
    new_ids = {row["id"] for row in new.values()}
    older = [
        {"older": row["id"]}
        for address, row in in_target.items()
        if address[0] != "users" and (address in new or row["id"] in new_ids)
    ]
    # What belongs to a memory goes by itself only where foreign keys are switched on.
    parts = [(_index, "memory_id"), (_versions, "memory_id"), (_memories, "id"), (_archived, "id"), (_sessions, "id")]
    for table, column in parts if older else []:
        this = delete(table).where(table.c[column] == bindparam("older"), table.c.user_id == user_id)
        connection.execute(this, older)
    for name, kind in KINDS.items():
        statement = update(_users).where(_users.c.id == user_id) if name == "users" else insert(kind.table)
        _store(connection, statement, [row for address, row in new.items() if address[0] == name])
    history = [(row["id"], version) for row in new.values() for version in row.get("versions", [])]
    versions = [{"memory_id": memory_id, "user_id": user_id} | version for memory_id, version in history]
    _store(connection, insert(_versions), versions)
    return fates, _read(connection, user_id)


def _store(connection: Connection, statement: Any, rows: list[Row]) -> None:
    """Execute a statement with the values of each row."""
    if not rows:
        return
    names = [column.name for column in statement.table.c if column.name in rows[0]]
    values: dict[str, Any] = {name: bindparam(name) for name in names}
    for name in values.keys() & set(_DOCUMENTS):
        values[name] = bindparam(name, type_=Text)  # JSON already; as JSON it would be serialized once more
        if connection.dialect.name == "postgresql":
            values[name] = cast(values[name], JSONB)
    connection.execute(statement.values(values), [{name: row[name] for name in values} for row in rows])


def _read(connection: Connection, user_id: str, *, lock: bool = False) -> Rows:
    """Read all rows of a user; a memory comes with its earlier versions, in their order. lock: hold the rows."""
    rows: Rows = {}
    for name, kind in KINDS.items():
        for row in _select(connection, kind.table, _owner(kind.table) == user_id, lock=lock):
            rows[name, *(row[column] for column in kind.identity)] = row
    memories = {row["id"]: row for (name, *_), row in rows.items() if name == "memories"}
    for memory in memories.values():
        memory["versions"] = []
    theirs = select(_memories.c.id).where(_memories.c.user_id == user_id)
    for version in _select(connection, _versions, _versions.c.user_id == user_id, _versions.c.memory_id.in_(theirs)):
        if version["memory_id"] in memories:
            memories[version["memory_id"]]["versions"].append({name: version[name] for name in _OF_VERSION})
    return rows


def _select(connection: Connection, table: Table, *conditions: Any, lock: bool = False) -> list[Row]:
    """Read rows in the order of their ids, JSON as the store writes it: equal documents are equal texts."""
    columns = [cast(column, Text).label(column.name) if column.name in _DOCUMENTS else column for column in table.c]
    query = select(*columns).where(*conditions).order_by(table.c.id)
    if lock:
        query = query.with_for_update(key_share=True)
    rows = [dict(row) for row in connection.execute(query).mappings()]
    for row in rows:
        for name in row.keys() & set(_DOCUMENTS):
            try:
                row[name] = _as_stored(row[name])
            except ValueError as error:
                raise InvalidInput(f"{name} of row {row['id']} of {table.name} can't be stored: {error}") from None
    return rows


def _as_stored(document: str | None) -> str | None:
    """Return a JSON text of either database as the store writes it."""
    parsed = None if document is None else json.loads(document)
    if isinstance(parsed, list):
        return prepare({"": parsed})[1].removeprefix('{"":').removesuffix("}")
    return None if parsed is None else prepare(parsed)[1]


def _owner(table: Table) -> Any:
    return table.c.get("user_id", table.c.id)
