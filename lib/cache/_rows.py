"""The cache's two tables: contents that are complete, and leases on those that somebody is generating."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Table, bindparam, delete, select, type_coerce
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.types import NullType

from lib.cache.scope import Scope
from lib.database import CachedContent, CacheLease
from lib.database.tables import new_id
from lib.database.transactions import add_user, autocommit_connection, hold_user, write_transaction

_contents, _leases = CachedContent.__table__, CacheLease.__table__
KEPT = ("created_at", "expires_at", "model", "tokens_in", "tokens_out", "generation_ms")  # beside the content
# Both drivers give floats as they are. SQLAlchemy would look at the answer before it knew, and here there is none yet.
_milliseconds = type_coerce(_contents.c.generation_ms, NullType()).label("generation_ms")
_by_hash = select(_contents.c.content, *[_contents.c[name] for name in KEPT[:-1]], _milliseconds).where(
    _contents.c.content_hash == bindparam("content_hash")
)
# By the hash alone it would be the same row. But what reads a user's rows says whose they are: so a mistake in the
# hash finds nothing rather than something of somebody else.
_SHARED = _by_hash.where(_contents.c.user_id.is_(None))
_OWN = _by_hash.where(_contents.c.user_id == bindparam("user_id"))


@dataclass(frozen=True, slots=True)
class Entry:
    """The address of a content: what it was made from, what it is, and whom it is for."""

    content_hash: str  # of all three
    content_type: str
    scope: Scope

    @classmethod
    def of(cls, key: str, content_type: str, scope: Scope) -> "Entry":
        # Not content_hash(): that takes texts for equal which Unicode takes for equal; ids of users are compared as
        # they are.
        whole = json.dumps([key, content_type, scope.kind, scope.user_id])
        return cls(hashlib.sha256(whole.encode()).hexdigest(), content_type, scope)


class CacheRows:
    """Reading and writing the two tables, for one engine. Every call is a short transaction of its own."""

    def __init__(self, engine: Engine):
        self.engine = engine

    def find(self, entry: Entry, now: datetime) -> tuple[Any, ...] | None:
        """(content, *KEPT) of a content that hasn't expired by `now`; or None."""
        parameters = {"content_hash": entry.content_hash, "user_id": entry.scope.user_id}
        with autocommit_connection(self.engine) as connection:
            row = connection.execute(_SHARED if entry.scope.user_id is None else _OWN, parameters).first()
        return row if row is not None and (row.expires_at is None or row.expires_at > now) else None

    def is_leased(self, entry: Entry, now: datetime) -> bool:
        """Whether somebody is generating it, as far as we know."""
        leased = select(_leases.c.owner).where(*_this(_leases, entry), _leases.c.claimed_until > now)
        with autocommit_connection(self.engine) as connection:
            return connection.execute(leased).first() is not None

    def claim(self, entry: Entry, now: datetime, until: datetime) -> str | None:
        """Take the lease; returns its owner's mark, or None if somebody has it. A lapsed one is taken over."""
        row = {"content_hash": entry.content_hash, "content_type": entry.content_type, "user_id": entry.scope.user_id}
        new = _insert(self.engine, _leases).values(**row, owner=new_id(), claimed_until=until)
        taken_over = {name: new.excluded[name] for name in ("owner", "claimed_until")}
        claim = new.on_conflict_do_update(
            index_elements=["content_hash"], set_=taken_over, where=_leases.c.claimed_until <= now
        )
        with write_transaction(self.engine) as connection:
            if entry.scope.user_id is not None:
                add_user(connection, entry.scope.user_id, now)
            return connection.scalar(claim.returning(_leases.c.owner))

    def release(self, entry: Entry, owner: str) -> None:
        """Give the lease up. One that is lost already stays with whoever has it now."""
        with autocommit_connection(self.engine) as connection:
            connection.execute(delete(_leases).where(*_this(_leases, entry), _leases.c.owner == owner))

    def complete(self, entry: Entry, owner: str, row: Mapping[str, Any]) -> bool:
        """Store what was generated under a lease, and end it; False, and nothing is stored, if the lease is lost.

        It is lost when it has lapsed and was taken, and when the content was invalidated or the user forgotten.
        """
        lease = delete(_leases).where(*_this(_leases, entry), _leases.c.owner == owner)
        with write_transaction(self.engine) as connection:
            if entry.scope.user_id is not None and not hold_user(connection, entry.scope.user_id):
                return False
            if connection.execute(lease).rowcount != 1:
                return False
            self._write(connection, entry, row)
        return True

    def put(self, entry: Entry, now: datetime, row: Mapping[str, Any]) -> None:
        """Store a content without a lease. Who is generating the same one loses theirs."""
        with write_transaction(self.engine) as connection:
            if entry.scope.user_id is not None:
                add_user(connection, entry.scope.user_id, now)
            connection.execute(delete(_leases).where(*_this(_leases, entry)))
            self._write(connection, entry, row)

    def delete(self, entry: Entry) -> bool:
        """Delete a content, and the lease of who is making it anew from what is out of date."""
        with write_transaction(self.engine) as connection:
            hold_user(connection, entry.scope.user_id) if entry.scope.user_id is not None else None
            connection.execute(delete(_leases).where(*_this(_leases, entry)))
            return connection.execute(delete(_contents).where(*_this(_contents, entry))).rowcount == 1

    def _write(self, connection: Connection, entry: Entry, row: Mapping[str, Any]) -> None:
        insert = _insert(self.engine, _contents).values(
            id=new_id(), content_hash=entry.content_hash, content_type=entry.content_type,
            user_id=entry.scope.user_id, access_count=0, last_accessed=None, **row,
        )  # fmt: skip
        # One that has expired, or was invalidated in another process, is still there: this is another content.
        replaced = {name: insert.excluded[name] for name in ("id", "access_count", "last_accessed", *row)}
        connection.execute(insert.on_conflict_do_update(index_elements=["content_hash"], set_=replaced))


def of_scope(table: Table, user_id: str | None) -> ColumnElement[bool]:
    """The condition that a row is that user's, or shared (None)."""
    return table.c.user_id.is_(None) if user_id is None else table.c.user_id == user_id


def _this(table: Table, entry: Entry) -> tuple[ColumnElement[bool], ...]:
    return table.c.content_hash == entry.content_hash, of_scope(table, entry.scope.user_id)


def _insert(engine: Engine, table: Table) -> Any:
    return (postgresql if engine.dialect.name == "postgresql" else sqlite).insert(table)
