"""Deleting from the cache: what has expired, what is too much, and all of one type; in small transactions."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Engine, delete, func, or_, select

from lib.cache._rows import CONTENTS, LEASES, of_scope
from lib.cache.scope import Scope
from lib.checks import checked_number
from lib.database.transactions import autocommit_connection, write_transaction
from lib.errors import InvalidInput, shown

BATCH = 500  # contents deleted in one transaction: a reader or writer never waits longer than for those
MAX_AGE = timedelta(days=3650)
FORGOTTEN_LEASE = timedelta(days=1)  # after its end: its owner died, and nobody asked again

_last_used = func.coalesce(CONTENTS.c.last_accessed, CONTENTS.c.created_at)
# Who goes first. The id breaks ties, so that two who evict at once mean the same contents.
_ORDERS: dict[str, tuple[ColumnElement[Any], ...]] = {
    "lru": (_last_used, CONTENTS.c.id),
    "lfu": (CONTENTS.c.access_count, _last_used, CONTENTS.c.id),
}


def evict(
    engine: Engine,
    now: datetime,
    max_entries: int | None,
    max_bytes: int | None,
    older_than: timedelta | None,
    policy: str,
) -> int:
    """Delete what has expired by `now`, then what is older or more than the limits; return how many contents went.

    Limits: see `ContentCache.evict`. Errors: InvalidInput for one that is none.
    """
    limits = {"max_entries": max_entries, "max_bytes": max_bytes}
    for name, limit in limits.items():
        if limit is not None:
            checked_number(name, limit, 0, whole=True)
    if older_than is not None and not (isinstance(older_than, timedelta) and timedelta(0) <= older_than <= MAX_AGE):
        raise InvalidInput(
            f"older_than must be a timedelta such as timedelta(days=30), up to ten years, not {older_than!r}."
        )
    if policy not in _ORDERS:
        raise InvalidInput(f"policy must be one of {', '.join(_ORDERS)}, not {shown(policy)}.")
    evicted = _delete_contents(engine, CONTENTS.c.expires_at <= now)
    if older_than is not None:
        evicted += _delete_contents(engine, CONTENTS.c.created_at < now - older_than)
    with autocommit_connection(engine) as connection:
        excess = _excess(connection, max_entries, max_bytes, policy)
    for start in range(0, len(excess), BATCH):
        evicted += _delete_free(engine, CONTENTS.c.id.in_(excess[start : start + BATCH]))
    _delete_one_by_one(engine, LEASES.c.content_hash, LEASES.c.claimed_until < now - FORGOTTEN_LEASE)
    return evicted


def delete_type(engine: Engine, content_type: str, scope: Scope | None) -> int:
    """Delete all contents of a type and the leases on such, of one scope or of all; return how many contents."""
    leases, contents = (
        [table.c.content_type == content_type, *([] if scope is None else [of_scope(table, scope.user_id)])]
        for table in (LEASES, CONTENTS)
    )
    _delete_one_by_one(engine, LEASES.c.content_hash, *leases)  # first: who is generating then stores nothing later
    deleted = _delete_contents(engine, *contents)
    # Those that were passed over because somebody was counting them: here all have to go.
    return deleted + _delete_one_by_one(engine, CONTENTS.c.id, *contents)


def _delete_contents(engine: Engine, *conditions: ColumnElement[bool]) -> int:
    deleted = 0
    while batch := _delete_free(engine, *conditions):
        deleted += batch
    return deleted


def _delete_free(engine: Engine, *conditions: ColumnElement[bool]) -> int:
    """Delete a batch of those that nobody else is deleting, counting or replacing; return how many.

    So we wait for nobody while we hold others.
    """
    free = select(CONTENTS.c.id).where(*conditions).limit(BATCH).with_for_update(skip_locked=True)
    with write_transaction(engine) as connection:
        ids = connection.scalars(free).all()
        return connection.execute(delete(CONTENTS).where(CONTENTS.c.id.in_(ids), *conditions)).rowcount


def _delete_one_by_one(engine: Engine, name: Column[Any], *conditions: ColumnElement[bool]) -> int:
    """Delete the few rows that are meant; who holds none while waiting for the next is in nobody's way."""
    with autocommit_connection(engine) as connection:
        names = connection.scalars(select(name).where(*conditions)).all()
    deleted = 0
    for each in names:
        with autocommit_connection(engine) as connection:
            deleted += connection.execute(delete(name.table).where(name == each, *conditions)).rowcount
    return deleted


def _excess(connection: Connection, max_entries: int | None, max_bytes: int | None, policy: str) -> Sequence[str]:
    """The ids of those that are too many, the first to go first.

    One statement, thus one moment: whoever counts first and looks for the ids then, deletes twice what another one
    is deleting in between.
    """
    last_first = [column.desc() for column in _ORDERS[policy]]
    ranked = select(  # each with those that go later
        CONTENTS.c.id,
        func.count().over(order_by=last_first, rows=(None, 0)).label("entries"),
        func.sum(CONTENTS.c.size_bytes).over(order_by=last_first, rows=(None, 0)).label("bytes"),
    ).subquery()
    limits = ((ranked.c.entries, max_entries), (ranked.c.bytes, max_bytes))
    too_much = [column > limit for column, limit in limits if limit is not None]
    if not too_much:
        return []
    return connection.scalars(select(ranked.c.id).where(or_(*too_much)).order_by(ranked.c.entries.desc())).all()
