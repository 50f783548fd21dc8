"""Deleting from the cache: what has expired, what is too much, and all of one type; in small transactions."""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Column, ColumnElement, Engine, delete, func, or_, select

from lib.cache._rows import CONTENTS, LEASES, of_scope
from lib.cache.scope import Scope
from lib.checks import checked_number
from lib.database.transactions import autocommit_connection, write_transaction
from lib.errors import InvalidInput, shown

BATCH = 500  # contents deleted in one transaction: a reader or writer never waits longer than for those
MAX_AGE = timedelta(days=3650)

_last_used = func.coalesce(CONTENTS.c.last_accessed, CONTENTS.c.created_at).desc()
# Who goes last comes first. The id breaks ties, so that two who evict at once mean the same contents.
_ORDERS: dict[str, tuple[ColumnElement[Any], ...]] = {
    "lru": (_last_used, CONTENTS.c.id.desc()),
    "lfu": (CONTENTS.c.access_count.desc(), _last_used, CONTENTS.c.id.desc()),
}


def evict(engine: Engine, now: datetime, max_entries: int | None, older_than: timedelta | None, policy: str) -> int:
    """Delete what has expired by `now` or is too old, then what is too much; return how many contents went.

    Limits: see `ContentCache.evict`. Errors: InvalidInput for one that is none.
    """
    if max_entries is not None:
        checked_number("max_entries", max_entries, 0, whole=True)
    if older_than is not None and not (isinstance(older_than, timedelta) and timedelta(0) <= older_than <= MAX_AGE):
        raise InvalidInput(
            f"older_than must be a timedelta such as timedelta(days=30), up to ten years, not {older_than!r}."
        )
    if policy not in _ORDERS:
        raise InvalidInput(f"policy must be one of {', '.join(_ORDERS)}, not {shown(policy)}.")
    outdated = CONTENTS.c.expires_at <= now
    if older_than is not None:
        outdated = or_(outdated, CONTENTS.c.created_at < now - older_than)
    evicted = _delete_contents(engine, outdated)
    if max_entries is not None:
        # One statement, thus one moment: whoever counts first and looks for the ids then, deletes twice what another
        # one is deleting in between.
        excess = select(CONTENTS.c.id).order_by(*_ORDERS[policy]).offset(max_entries)
        with autocommit_connection(engine) as connection:
            ids = connection.scalars(excess).all()
        for start in range(0, len(ids), BATCH):
            evicted += _delete_free(engine, CONTENTS.c.id.in_(ids[start : start + BATCH]))
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
