"""Deleting from the cache: what has expired, what is too much, and all of one type; in small transactions."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    LargeBinary,
    Select,
    Text,
    cast,
    delete,
    func,
    or_,
    select,
)

from lib.cache._rows import of_scope
from lib.cache.scope import Scope
from lib.database import CachedContent, CacheLease, bound
from lib.database.transactions import autocommit_connection, write_transaction
from lib.errors import InvalidInput, NotYourRows, shown

BATCH = 500  # contents deleted in one transaction: a reader or writer never waits longer than for those
LONGEST = timedelta(days=3650)
POLICIES = ("lru", "lfu")

_contents, _leases = CachedContent.__table__, CacheLease.__table__
_last_used = func.coalesce(_contents.c.last_accessed, _contents.c.created_at)
# Who goes first. The id breaks ties, so that two who evict at once mean the same contents.
_ORDERS = {
    "lru": (_last_used, _contents.c.id),
    "lfu": (_contents.c.access_count, _last_used, _contents.c.id),
}


@dataclass(frozen=True, slots=True)
class Eviction:
    """The limits that are to be kept; None stands for no limit."""

    max_entries: int | None = None
    max_bytes: int | None = None
    older_than: timedelta | None = None
    policy: str = "lru"

    def __post_init__(self) -> None:
        for name in ("max_entries", "max_bytes"):
            limit = getattr(self, name)
            if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 0):
                raise InvalidInput(f"{name} must be a whole number from 0 on, not {shown(limit)}.")
        if self.older_than is not None and not (
            isinstance(self.older_than, timedelta) and timedelta(0) <= self.older_than <= LONGEST
        ):
            raise InvalidInput(
                f"older_than must be a timedelta such as timedelta(days=30), up to ten years, not {self.older_than!r}."
            )
        if self.policy not in POLICIES:
            raise InvalidInput(f"policy must be one of {', '.join(POLICIES)}, not {shown(self.policy)}.")


def evict(engine: Engine, now: datetime, limits: Eviction) -> int:
    """Delete what has expired by `now`, then what is older or more than the limits; returns how many contents went."""
    if user := bound(engine):
        raise NotYourRows(
            f"this engine is bound to the user {user.user_id!r}, and evicting is about the contents of all. Use the "
            "engine that as_user was given."
        )
    evicted = _delete_where(engine, _contents.c.expires_at <= now)
    if limits.older_than is not None:
        evicted += _delete_where(engine, _contents.c.created_at < now - limits.older_than)
    with autocommit_connection(engine) as connection:
        excess = _excess(connection, limits)
    for start in range(0, len(excess), BATCH):
        with write_transaction(engine) as connection:
            these = _contents.c.id.in_(excess[start : start + BATCH])
            held = _contents.c.id.in_(_held(connection, select(_contents.c.id).where(these)))
            evicted += connection.execute(delete(_contents).where(held)).rowcount
    # Nobody waits for what they were to end any more: their owners died, and nobody asked again.
    _delete_leases(engine, _leases.c.claimed_until < now - timedelta(days=1))
    return evicted


def delete_type(engine: Engine, content_type: str, scope: Scope | None) -> int:
    """Delete all contents of a type and the leases on such, of one scope or of all; returns how many contents."""
    of_leases, of_contents = (
        [table.c.content_type == content_type, *([] if scope is None else [of_scope(table, scope.user_id)])]
        for table in (_leases, _contents)
    )
    _delete_leases(engine, *of_leases)  # first: who is generating then stores nothing after we have passed
    deleted = _delete_where(engine, *of_contents)
    # Those that were passed over because somebody was counting them: here all have to go.
    with autocommit_connection(engine) as connection:
        passed_over = connection.scalars(select(_contents.c.id).where(*of_contents)).all()
    for one in passed_over:
        with autocommit_connection(engine) as connection:
            deleted += connection.execute(delete(_contents).where(_contents.c.id == one, *of_contents)).rowcount
    return deleted


def _delete_leases(engine: Engine, *conditions: ColumnElement[bool]) -> None:
    """One by one, because they are few, and who holds none while waiting for the next is in nobody's way."""
    with autocommit_connection(engine) as connection:
        hashes = connection.scalars(select(_leases.c.content_hash).where(*conditions)).all()
    for one in hashes:
        with autocommit_connection(engine) as connection:
            connection.execute(delete(_leases).where(_leases.c.content_hash == one, *conditions))


def _delete_where(engine: Engine, *conditions: ColumnElement[bool]) -> int:
    deleted = 0
    while True:
        some = select(_contents.c.id).where(*conditions).limit(BATCH)
        with write_transaction(engine) as connection:
            held = _held(connection, some)
            deleted += connection.execute(delete(_contents).where(_contents.c.id.in_(held), *conditions)).rowcount
        if len(held) < BATCH:
            return deleted


def _held(connection: Connection, ids: Select) -> Sequence[str]:
    """Of these, those that nobody else is deleting, counting or replacing: we wait for nobody while we hold others."""
    return connection.scalars(ids.with_for_update(skip_locked=True)).all()


def _excess(connection: Connection, limits: Eviction) -> Sequence[str]:
    """The ids of those that are too many, the first to go first.

    One statement, thus one moment: whoever counts first and looks for the ids then, deletes twice what another one
    is deleting in between.
    """
    if limits.max_entries is None and limits.max_bytes is None:
        return []
    # Contents of older workbooks have no size yet.
    as_text = Text if connection.dialect.name == "postgresql" else LargeBinary  # SQLite's length of a blob is in bytes
    length = func.octet_length if connection.dialect.name == "postgresql" else func.length
    size = func.coalesce(_contents.c.size_bytes, length(cast(_contents.c.content, as_text)))
    last_first = [column.desc() for column in _ORDERS[limits.policy]]
    up_to_here = {"order_by": last_first, "rows": (None, 0)}  # those that go later, and this one
    ranked = select(
        _contents.c.id,
        func.count().over(**up_to_here).label("entries"),
        func.sum(size).over(**up_to_here).label("bytes"),
    ).subquery()
    too_much = [
        column > limit
        for column, limit in ((ranked.c.entries, limits.max_entries), (ranked.c.bytes, limits.max_bytes))
        if limit is not None
    ]
    return connection.scalars(select(ranked.c.id).where(or_(*too_much)).order_by(ranked.c.entries.desc())).all()
