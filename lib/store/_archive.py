"""Memories moved out of the way: in no search any more, kept as they were, brought back on request."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine, Text, and_, delete, insert, literal, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite

from lib.database import ArchivedMemory
from lib.database.tables import KEY_LENGTH, NAMESPACE_LENGTH, USER_ID_LENGTH, Memory, UTCDateTime
from lib.database.transactions import autocommit_connection, hold_user, write_transaction
from lib.errors import InvalidInput, shown
from lib.records import RecordList
from lib.store._found_by_id import of_user
from lib.store.filters import not_lapsed, page
from lib.store.items import MemoryItem, MemoryList, when
from lib.store.values import check_address, check_name, check_text, prepare

BATCH = 500  # addresses in one statement

_memories, _archived = Memory.__table__, ArchivedMemory.__table__
_KEPT = ("id", "user_id", "namespace", "key", "value", "created_at", "updated_at", "expires_at")
_item = [_archived.c[name] for name in (*_KEPT[1:], "archived_at", "reason")]
_newest_first = (_archived.c.archived_at.desc(), _archived.c.id.desc())


@dataclass(frozen=True, slots=True)
class ArchivedItem(MemoryItem):
    """One memory of the archive, with when and why it went there."""

    archived_at: datetime | None = None  # aware, UTC
    reason: str = ""

    def _repr_html_(self) -> str:
        return ArchivedList([self])._repr_html_()


class ArchivedList(RecordList[ArchivedItem]):
    """Memories of the archive. In a notebook it shows as a table."""

    columns = ("namespace", "key", "value", "archived_at (UTC)", "reason")
    nothing = "no memories"
    line = MemoryList.line

    @staticmethod
    def row(record: ArchivedItem) -> tuple[str, ...]:
        return *MemoryList.row(record)[:3], when(record.archived_at), record.reason


def move_out(
    engine: Engine | Connection, user_id: str, addresses: Iterable[tuple[str, str]], reason: str, now: datetime
) -> int:
    """Move memories of a user to the archive; returns how many there were. See `MemoryStore.archive`."""
    check_name(user_id, "user_id", USER_ID_LENGTH)
    wanted, reason = _checked_addresses(addresses), check_text(reason, "reason")
    with write_transaction(engine) as connection:
        if not hold_user(connection, user_id):
            return 0
        batches = (wanted[start : start + BATCH] for start in range(0, len(wanted), BATCH))
        return sum(_move_batch(connection, user_id, batch, reason, now) for batch in batches)


def _move_batch(
    connection: Connection, user_id: str, addresses: list[tuple[str, str]], reason: str, now: datetime
) -> int:
    extra = {"archived_at": literal(now, UTCDateTime()), "reason": literal(reason, Text)}
    wanted = tuple_(_memories.c.namespace, _memories.c.key).in_(addresses)
    there = select(_memories.c.id).where(_memories.c.user_id == user_id, wanted, not_lapsed(now))
    # Locked before they are copied: what a put changed between the copy and the deletion would be lost.
    ids = connection.scalars(there.with_for_update()).all()
    these = and_(_memories.c.id.in_(ids), of_user(_memories.c.user_id, user_id))
    # Copied by the database, so that a value stays what it is to the last digit.
    copied = select(*[_memories.c[name] for name in _KEPT], *extra.values()).where(these)
    connection.execute(insert(_archived).from_select([*_KEPT, *extra], copied))
    return connection.execute(delete(_memories).where(these)).rowcount


def archived_memories(
    engine: Engine | Connection, user_id: str, namespace: str | None, now: datetime, limit: int | None, offset: int
) -> ArchivedList:
    """Archived memories of a user, the last to be archived first. See `MemoryStore.archived`."""
    there = [_archived.c.user_id == check_name(user_id, "user_id", USER_ID_LENGTH), not_lapsed(now, ArchivedMemory)]
    if namespace is not None:
        there.append(_archived.c.namespace == check_name(namespace, "namespace", NAMESPACE_LENGTH))
    query = page(select(*_item).where(*there).order_by(*_newest_first), limit, offset)
    with autocommit_connection(engine) as connection:
        return ArchivedList(ArchivedItem(*row) for row in connection.execute(query))


def bring_back(engine: Engine | Connection, user_id: str, namespace: str, key: str, now: datetime) -> bool:
    """Move the memory archived last with this address back; False if there is none. See `MemoryStore.restore`."""
    address = check_address(user_id, namespace, key)
    newest = select(_archived.c.id, _archived.c.value).filter_by(**address).where(not_lapsed(now, ArchivedMemory))
    with write_transaction(engine) as connection:
        hold_user(connection, user_id)
        found = connection.execute(newest.order_by(*_newest_first).limit(1)).first()
        if found is None:
            return False
        connection.execute(delete(_memories).filter_by(**address).where(_memories.c.expires_at <= now))
        copied = select(*[_archived.c[name] for name in _KEPT], literal(prepare(found.value)[2], Text))
        this = and_(_archived.c.id == found.id, of_user(_archived.c.user_id, user_id))
        copied = copied.where(this)
        into = (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(_memories)
        # Whether the address is free is the database's to say: a put may have come since anybody looked.
        back = into.from_select([*_KEPT, "search_text"], copied).on_conflict_do_nothing()
        if connection.execute(back.returning(_memories.c.id)).first() is None:
            raise InvalidInput(
                f"{namespace}/{key} is the address of a current memory, which restoring would replace. "
                "Delete or archive that one first, or read the old one with archived()."
            )
        connection.execute(delete(_archived).where(this))
        return True


def _checked_addresses(addresses: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The addresses, each once; InvalidInput if one of them can't be that of a memory."""
    if isinstance(addresses, str) or not isinstance(addresses, Iterable):
        raise InvalidInput(f'addresses must be a list such as [("episodes", "monday")], not {shown(addresses)}.')
    checked: dict[tuple[str, str], None] = {}
    for number, address in enumerate(addresses):
        if not isinstance(address, tuple | list) or len(address) != 2:
            raise InvalidInput(f"address {number} must be (namespace, key), not {shown(address)}.")
        namespace, key = address
        check_name(namespace, "namespace", NAMESPACE_LENGTH)
        checked[namespace, check_name(key, "key", KEY_LENGTH)] = None
    return list(checked)
