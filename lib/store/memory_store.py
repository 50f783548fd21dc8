"""The memory store: (user, namespace, key) -> JSON value, on SQLite and on PostgreSQL."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, bindparam, delete, func, select
from sqlalchemy.exc import IntegrityError
from tqdm.auto import tqdm

from lib.database import may_join
from lib.database.tables import USER_ID_LENGTH, Memory, as_utc, new_id, utcnow
from lib.database.transactions import add_user, autocommit_connection, hold_user, write_transaction
from lib.errors import InvalidInput, shown
from lib.store._archive import ArchivedList, archived_memories, bring_back, move_out
from lib.store._batches import batches, tell_planner, upsert_batch
from lib.store._history import VersionList, versions_of
from lib.store.erasure import delete_lapsed, delete_namespace, delete_user
from lib.store.filters import Conditions, check_conditions, folded_term, not_lapsed, page
from lib.store.items import Forgotten, MemoryItem, MemoryList
from lib.store.upsert import UPSERT
from lib.store.values import check_address, check_name, prepare

_memories = Memory.__table__
_newest_first = select(
    _memories.c.user_id, _memories.c.namespace, _memories.c.key, _memories.c.value,
    _memories.c.created_at, _memories.c.updated_at, _memories.c.expires_at,
).order_by(_memories.c.updated_at.desc(), _memories.c.id.desc())  # fmt: skip
_at_address = [_memories.c[name] == bindparam(name) for name in ("user_id", "namespace", "key")]
# Whether the row has lapsed is seen in Python: to send the time along takes longer than SQLite does for all of it.
_get = select(_memories.c.value, _memories.c.expires_at).where(*_at_address)


class MemoryStore:
    """Long-term memory of an agent: put, get, search, delete.

    Every call is one short transaction: it happens whole or not at all, and holds nothing afterwards. A store
    may be shared by threads; processes each make their own. `now` gives the time that memories are stamped
    with; a lesson or a test passes a clock of its own.

    >>> from lib.database.engine import connect, create_tables
    >>> engine = connect("sqlite://")
    >>> create_tables(engine)
    >>> store = MemoryStore(engine)
    >>> item = store.put("ada", "preferences", "language", {"content": "Prefers Python"})
    >>> store.get("ada", "preferences", "language")
    {'content': 'Prefers Python'}
    """

    def __init__(self, engine: Engine, *, now: Callable[[], datetime] = utcnow):
        self._engine: Engine | Connection = engine
        self._now = now
        self._dialect = engine.dialect.name

    @property
    def engine(self) -> Engine | Connection:
        """The database that it works on; a connection within a transaction."""
        return self._engine

    def in_transaction(self, connection: Connection) -> "MemoryStore":
        """The same store in a transaction that is open: its calls are kept, or undone, with the rest of that one.

        connection: of this store's database, as from `write_transaction`. Nothing is committed by the
            calls. Those that write hold the user's row until the transaction ends: touch one user, or all in one order.
        """
        if not may_join(self._engine, connection):
            raise InvalidInput(
                f"in_transaction needs an open connection of this store's engine, not {shown(connection)}."
            )
        store = copy(self)
        store._engine = connection
        return store

    @contextmanager
    def locked_transaction(self, user_id: str) -> Iterator["MemoryStore | None"]:
        """This store in one transaction, before which others who write many memories of the user wait.

        What the block does through it is kept whole or, after an error, not at all. None if there is no such user.
        """
        with write_transaction(self._engine) as connection:
            yield self.in_transaction(connection) if hold_user(connection, user_id) else None

    def now(self) -> datetime:
        """The time by this store's clock, in UTC."""
        return as_utc(self._now())

    def put(
        self, user_id: str, namespace: str, key: str, value: dict[str, Any], *, expires_at: datetime | None = None
    ) -> MemoryItem:
        """Store a memory, or replace the one with this key; `created_at` is kept, `updated_at` moves.

        user_id, namespace, key: not empty, at most 50, 100 and 200 characters. An unknown user is added.
        value: a JSON object of at most 10 MB. The whole value is replaced, not merged.
        expires_at: aware; from then on the memory is not found. None: it stays, whatever an earlier put said.
        Two writers of one key: the second waits for the first, and its value stays; the first one is in the history.
        Errors: InvalidInput, before anything is stored.
        """
        canonical, row = self._row(user_id, namespace, key, value, as_utc(self._now()), expires_at)
        upsert = UPSERT[self._dialect]
        try:
            with autocommit_connection(self._engine) as connection:
                # Within a transaction the user comes first: a refusal would spoil all of it.
                if connection is self._engine and not hold_user(connection, user_id):
                    add_user(connection, user_id, row["created_at"])
                created_at = connection.scalar(upsert, row)
        except IntegrityError:
            # The user isn't there (yet, or any more). Trying the memory first keeps the common case at one
            # statement, and one round trip.
            with write_transaction(self._engine) as connection:
                add_user(connection, user_id, row["created_at"])
                created_at = connection.scalar(upsert, row)
        return MemoryItem(user_id, namespace, key, canonical, created_at, row["updated_at"], row["expires_at"])

    def put_many(
        self, user_id: str, memories: Iterable[tuple[str, str, dict[str, Any]]], *, progress: bool = False
    ) -> int:
        """Store many memories of one user in one transaction: all of them or, after an error, none.

        memories: (namespace, key, value) each; of two with one key the later one stays.
        progress: show a bar. Returns how many were stored.
        """
        now = as_utc(self._now())
        rows = {}
        for number, memory in enumerate(memories):
            try:
                namespace, key, value = memory
            except (TypeError, ValueError):
                raise InvalidInput(f"memory {number} must be (namespace, key, value), not {shown(memory)}.") from None
            _, row = self._row(user_id, namespace, key, value, now)
            rows[namespace, key] = row
        check_name(user_id, "user_id", USER_ID_LENGTH)
        if not rows:
            return 0
        with write_transaction(self._engine) as connection:
            add_user(connection, user_id, now)
            with tqdm(total=len(rows), unit="memory", unit_scale=True, disable=not progress) as bar:
                for batch in batches(rows.values()):
                    upsert_batch(connection, batch)
                    bar.update(len(batch))
        tell_planner(self._engine, len(rows))
        return len(rows)

    def get(self, user_id: str, namespace: str, key: str) -> dict[str, Any] | None:
        """The value of one memory, or None if there is none."""
        address = check_address(user_id, namespace, key)
        with autocommit_connection(self._engine) as connection:
            row = connection.execute(_get, address).first()
        if row is None or (row.expires_at is not None and row.expires_at <= self._now()):
            return None
        value: dict[str, Any] = row.value
        return value

    def search(
        self,
        user_id: str,
        namespace: str | None = None,
        *,
        filter: Mapping[str, str | int | float | bool | None] | None = None,
        topics: Sequence[str] | None = None,
        key_prefix: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        min_confidence: float | None = None,
        limit: int | None = 10,
        offset: int = 0,
        **unknown: Any,
    ) -> MemoryList:
        """Memories of a user, newest first; all conditions given must hold.

        namespace: None searches all of them.
        filter: fields of the value that must equal these, such as {"type": "episodic"}.
        topics: the value's list "topics" holds at least one of these, spelled alike.
        since, until: updated at or after, and before, these aware datetimes.
        min_confidence: the value's number "confidence" is at least this; values without one are left out.
        limit, offset: how many (None: all), after skipping how many.
        Errors: InvalidInput, also for a condition that there isn't.
        """
        check_conditions("search", unknown)
        conditions = Conditions(namespace, filter, topics, key_prefix, since, until, min_confidence)
        return self._find(user_id, conditions, limit, offset)

    def search_by_content(
        self,
        user_id: str,
        term: str,
        namespace: str | None = None,
        *,
        limit: int | None = 10,
        offset: int = 0,
        **conditions: Any,
    ) -> MemoryList:
        """Memories whose value holds the term somewhere in its texts or numbers, newest first.

        term: taken literally, but without regard to case and accents: "MONTREAL" finds "Montréal". The names
            of JSON fields are not searched. This is a search for a substring: it doesn't rank, and a whole
            question will hardly ever be found.
        conditions: filter, topics, key_prefix, since, until, min_confidence, as for `search`.
        """
        check_conditions("search_by_content", conditions)
        return self._find(user_id, Conditions(namespace, contains=folded_term(term), **conditions), limit, offset)

    def delete(self, user_id: str, namespace: str, key: str) -> bool:
        """Delete one memory. True if there was one."""
        identity = check_address(user_id, namespace, key)
        with autocommit_connection(self._engine) as connection:
            if connection is self._engine:
                hold_user(connection, user_id)  # before the memory, as all who hold more than one row
            return connection.execute(delete(_memories).filter_by(**identity)).rowcount > 0

    def clear(self, user_id: str, namespace: str) -> int:
        """Delete all memories of one namespace; returns how many there were."""
        return delete_namespace(self._engine, user_id, namespace)

    def history(self, user_id: str, namespace: str, key: str) -> VersionList:
        """The values that a memory has had, oldest first; the last one is its current value. Empty without a memory.

        A put of an equal value makes no version. Deleting or archiving a memory deletes its history.
        """
        with autocommit_connection(self._engine) as connection:
            return versions_of(connection, check_address(user_id, namespace, key), self._now())

    def list_namespaces(self, user_id: str) -> dict[str, int]:
        """The user's namespaces in alphabetical order, with the number of memories in each."""
        check_name(user_id, "user_id", USER_ID_LENGTH)
        counts = select(_memories.c.namespace, func.count())
        counts = counts.where(_memories.c.user_id == user_id, not_lapsed(self._now()))
        with autocommit_connection(self._engine) as connection:
            rows = connection.execute(counts.group_by(_memories.c.namespace)).all()
        return dict(sorted((namespace, count) for namespace, count in rows))

    def expire(self, user_id: str) -> int:
        """Delete the user's memories whose `expires_at` has come, from the archive too; returns how many."""
        return delete_lapsed(self._engine, user_id, self._now())

    def archive(self, user_id: str, addresses: Iterable[tuple[str, str]], *, reason: str = "") -> int:
        """Move memories to the archive, out of every search, all in one transaction; returns how many there were.

        addresses: (namespace, key) each. Their earlier versions are deleted. `restore` brings one back.
        """
        return move_out(self._engine, user_id, addresses, reason, self._now())

    def archived(
        self, user_id: str, namespace: str | None = None, *, limit: int | None = 10, offset: int = 0
    ) -> ArchivedList:
        """Memories of the archive, the last to be archived first; each with `archived_at` and `reason`."""
        return archived_memories(self._engine, user_id, namespace, self._now(), limit, offset)

    def restore(self, user_id: str, namespace: str, key: str) -> bool:
        """Bring back, as it was, the memory archived last with this address. False if there is none.

        Errors: InvalidInput if a current memory has the address; nothing is changed then.
        """
        return bring_back(self._engine, user_id, namespace, key, self._now())

    def forget_user(self, user_id: str) -> Forgotten:
        """Delete the user and every row about them, in every table; in one transaction.

        What stays: content of the cache that is nobody's (`SHARED`), a job that is running just now, without its name,
        and what this process has in memory of their vectors, until others take the room.
        """
        return delete_user(self._engine, user_id)

    def _row(
        self, user_id: str, namespace: str, key: str, value: Any, now: datetime, expires_at: datetime | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """(the canonical value, the row to store), everything checked."""
        row: dict[str, Any] = dict(check_address(user_id, namespace, key))
        canonical, row["value"], row["search_text"] = prepare(value)
        row["id"] = new_id()
        row["created_at"] = row["updated_at"] = now
        row["expires_at"] = None if expires_at is None else as_utc(expires_at)
        return canonical, row

    def _find(self, user_id: str, conditions: Conditions, limit: int | None, offset: int) -> MemoryList:
        check_name(user_id, "user_id", USER_ID_LENGTH)
        clauses, now = conditions.clauses(self._dialect), as_utc(self._now())
        query = _newest_first.where(_memories.c.user_id == user_id, not_lapsed(now), *clauses)
        with autocommit_connection(self._engine) as connection:
            return MemoryList(MemoryItem(*row) for row in connection.execute(page(query, limit, offset)))
