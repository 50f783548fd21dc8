"""The cache's two tables: contents that are complete, and leases on those that somebody is generating."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from sqlalchemy import ColumnElement, Connection, Engine, Table, bindparam, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from lib.cache.content import Cached
from lib.cache.scope import Scope
from lib.database import CONTENT_TYPE_LENGTH, CachedContent, CacheLease
from lib.database.tables import new_id
from lib.database.transactions import add_user, autocommit_connection, hold_user, write_transaction
from lib.errors import InvalidInput, shown
from lib.store.values import check_name

_KEY = re.compile(r"[0-9a-f]{64}").fullmatch
CONTENTS, LEASES = cast(Table, CachedContent.__table__), cast(Table, CacheLease.__table__)
GIVEN_OUT = ("content", "created_at", "expires_at", "model", "tokens_in", "tokens_out", "generation_ms")


def of_scope(table: Table, user_id: str | None) -> ColumnElement[bool]:
    """The condition that a row is that user's, or shared (None)."""
    return table.c.user_id.is_(None) if user_id is None else table.c.user_id == user_id


_BY_HASH = select(*[CONTENTS.c[name] for name in GIVEN_OUT]).where(CONTENTS.c.content_hash == bindparam("content_hash"))
# By the hash alone it would be the same row. But what reads a user's rows says whose they are: so a mistake in the
# hash finds nothing rather than something of somebody else.
_SHARED = _BY_HASH.where(CONTENTS.c.user_id.is_(None))
_OWN = _BY_HASH.where(CONTENTS.c.user_id == bindparam("user_id"))


@dataclass(frozen=True, slots=True)
class Entry:
    """The address of a content: what it was made from, what it is, and whom it is for."""

    content_hash: str  # of all three
    content_type: str
    scope: Scope

    @classmethod
    def of(cls, key: str, content_type: str, scope: Scope) -> "Entry":
        check_name(content_type, "content_type", CONTENT_TYPE_LENGTH)
        if not isinstance(key, str) or not _KEY(key):
            raise InvalidInput(f"a key must be 64 hexadecimal digits, not {shown(key)}. Use content_hash(…).")
        # Not content_hash(): that takes texts for equal which Unicode takes for equal; ids of users are compared as
        # they are.
        whole = json.dumps([key, content_type, scope.kind, scope.user_id])
        return cls(hashlib.sha256(whole.encode()).hexdigest(), content_type, scope)


class CacheRows:
    """Reading and writing the two tables, for one engine. Every call is a short transaction of its own."""

    def __init__(self, engine: Engine):
        self.engine = engine

    def find(self, entry: Entry, now: datetime) -> Cached | None:
        """Return the content as a hit, unless it has expired by `now`."""
        by_hash: dict[str, Any] = {"content_hash": entry.content_hash}
        with autocommit_connection(self.engine) as connection:
            if entry.scope.user_id is None:
                row = connection.execute(_SHARED, by_hash).first()
            else:
                row = connection.execute(_OWN, by_hash | {"user_id": entry.scope.user_id}).first()
        if row is None or (row.expires_at is not None and row.expires_at <= now):
            return None
        return cached(row._asdict(), "hit")

    def claim(self, entry: Entry, now: datetime, until: datetime) -> str | None:
        """Take the lease; return its owner's mark, or None if somebody has it. A lapsed one is taken over."""
        leased = select(LEASES.c.owner).where(*_this(LEASES, entry), LEASES.c.claimed_until > now)
        with autocommit_connection(self.engine) as connection:  # who waits for a lease asks often, and takes no lock
            if connection.execute(leased).first() is not None:
                return None
        new = _insert(self.engine, LEASES).values(
            content_hash=entry.content_hash,
            content_type=entry.content_type,
            user_id=entry.scope.user_id,
            owner=new_id(),
            claimed_until=until,
        )
        claim = new.on_conflict_do_update(
            index_elements=["content_hash"],
            set_={"owner": new.excluded.owner, "claimed_until": new.excluded.claimed_until},
            where=LEASES.c.claimed_until <= now,
        )
        with write_transaction(self.engine) as connection:
            if entry.scope.user_id is not None:
                add_user(connection, entry.scope.user_id, now)
            owner: str | None = connection.scalar(claim.returning(LEASES.c.owner))
        return owner

    def release(self, entry: Entry, owner: str) -> None:
        """Give the lease up. One that is lost already stays with whoever has it now."""
        with autocommit_connection(self.engine) as connection:
            connection.execute(delete(LEASES).where(*_this(LEASES, entry), LEASES.c.owner == owner))

    def complete(self, entry: Entry, owner: str, columns: Mapping[str, Any]) -> bool:
        """Store what was generated under a lease, and end it; False, and nothing is stored, if the lease is lost.

        It is lost when it has lapsed and was taken, and when the content was invalidated or the user forgotten.
        """
        lease = delete(LEASES).where(*_this(LEASES, entry), LEASES.c.owner == owner)
        with write_transaction(self.engine) as connection:
            if entry.scope.user_id is not None and not hold_user(connection, entry.scope.user_id):
                return False
            if connection.execute(lease).rowcount != 1:
                return False
            self._write(connection, entry, columns)
        return True

    def put(self, entry: Entry, now: datetime, columns: Mapping[str, Any]) -> None:
        """Store a content without a lease. Who is generating the same one loses theirs."""
        with write_transaction(self.engine) as connection:
            if entry.scope.user_id is not None:
                add_user(connection, entry.scope.user_id, now)
            connection.execute(delete(LEASES).where(*_this(LEASES, entry)))
            self._write(connection, entry, columns)

    def delete(self, entry: Entry) -> bool:
        """Delete a content, and the lease of who is making it anew from what is out of date."""
        with write_transaction(self.engine) as connection:
            if entry.scope.user_id is not None:
                hold_user(connection, entry.scope.user_id)
            connection.execute(delete(LEASES).where(*_this(LEASES, entry)))
            return connection.execute(delete(CONTENTS).where(*_this(CONTENTS, entry))).rowcount == 1

    def _write(self, connection: Connection, entry: Entry, columns: Mapping[str, Any]) -> None:
        insert = _insert(self.engine, CONTENTS).values(
            id=new_id(), content_hash=entry.content_hash, content_type=entry.content_type,
            user_id=entry.scope.user_id, access_count=0, last_accessed=None, **columns,
        )  # fmt: skip
        # One that has expired, or was invalidated in another process, is still there: this is another content.
        replaced = {name: insert.excluded[name] for name in ("id", "access_count", "last_accessed", *columns)}
        connection.execute(insert.on_conflict_do_update(index_elements=["content_hash"], set_=replaced))


def cached(columns: Mapping[str, Any], outcome: str) -> Cached:
    """Return what is given out of a content with these columns; latency_ms is for who knows when the call began."""
    return Cached(outcome=outcome, latency_ms=0.0, **{name: columns[name] for name in GIVEN_OUT})


def _this(table: Table, entry: Entry) -> tuple[ColumnElement[bool], ...]:
    return table.c.content_hash == entry.content_hash, of_scope(table, entry.scope.user_id)


def _insert(engine: Engine, table: Table) -> Any:
    return (postgresql if engine.dialect.name == "postgresql" else sqlite).insert(table)
