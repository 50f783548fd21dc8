"""How often each content was served: counted in memory, and added up in the database from time to time."""

import os
import threading
import time
from contextlib import suppress
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, bindparam, update

from lib.cache._rows import CONTENTS, Entry
from lib.database import bound
from lib.database.transactions import hold_user, write_transaction
from lib.errors import WorkbookError

FLUSH_HITS = 1000

# The sum is made by the database: read, add and write would lose what another one adds meanwhile. Created at that
# moment: what has replaced a content since is another one, and wasn't read.
_ADD = (
    update(CONTENTS)
    .where(CONTENTS.c.content_hash == bindparam("hash"))
    .where(CONTENTS.c.created_at == bindparam("created", type_=CONTENTS.c.created_at.type))
    .values(access_count=CONTENTS.c.access_count + bindparam("hits"), last_accessed=bindparam("last"))
)
_ADD_TO_SHARED = _ADD.where(CONTENTS.c.user_id.is_(None))
_ADD_TO_OWN = _ADD.where(CONTENTS.c.user_id == bindparam("user"))
Served = tuple[str | None, str, datetime]  # user_id, content_hash, created_at


class HitCounts:
    """Hits that aren't in the database yet. An UPDATE for each would make a hit as slow as a write to the disk.

    The hit that is the 1,000th since the last time, or the first after `flush_seconds`, adds them up; so does `flush`,
    which `close` calls. A process that is killed, or ends without `close`, loses those since: 999 hits at most, and
    counts only.
    """

    def __init__(self, engine: Engine, flush_seconds: float):
        self._engine, self._seconds, self._process = engine, flush_seconds, -1
        self._begin_in_this_process()

    def _begin_in_this_process(self) -> None:
        """After a fork, count from 0: the parent adds what it counted, and its lock may be held for ever here."""
        if self._process != os.getpid():
            self._lock = threading.Lock()  # for an instant only
            self._counts: dict[Served, tuple[int, datetime]] = {}  # -> hits, the last of them
            self._hits, self._flush_at = 0, time.monotonic() + self._seconds
            self._process = os.getpid()

    def add(self, entry: Entry, created_at: datetime, at: datetime) -> None:
        """Count one hit. created_at: of the content that was served. at: the time of the hit."""
        if entry.scope.user_id is None and bound(self._engine):
            return  # the role of requests may read shared contents, not write to them: see ContentCache.on
        self._begin_in_this_process()
        with self._lock:
            self._count((entry.scope.user_id, entry.content_hash, created_at), 1, at)
            self._hits += 1
            is_due = self._hits >= FLUSH_HITS or time.monotonic() >= self._flush_at
        if is_due:
            with suppress(WorkbookError):  # the content is served all the same, and the count waits for the next flush
                self.flush()

    def flush(self) -> None:
        """Add all that was counted until now to the database. After an error, it is still counted."""
        self._begin_in_this_process()
        with self._lock:
            counts, self._counts = self._counts, {}
            self._hits, self._flush_at = 0, time.monotonic() + self._seconds
        if not counts:
            return
        # All who add up take rows in one order, and a user's row before theirs, so that none waits for another in turn.
        shared: list[dict[str, Any]] = []
        own: list[dict[str, Any]] = []
        for user_id, content_hash, created_at in sorted(counts, key=lambda served: (served[0] or "", *served[1:])):
            hits, last = counts[user_id, content_hash, created_at]
            row = {"hash": content_hash, "created": created_at, "hits": hits, "last": last}
            if user_id is None:
                shared.append(row)
            else:
                own.append(row | {"user": user_id})
        try:
            with write_transaction(self._engine) as connection:
                for user_id in dict.fromkeys(row["user"] for row in own):
                    hold_user(connection, user_id)
                if shared:
                    connection.execute(_ADD_TO_SHARED, shared)
                if own:
                    connection.execute(_ADD_TO_OWN, own)
        except BaseException:
            with self._lock:
                for served, (hits, last) in counts.items():
                    self._count(served, hits, last)
            raise

    def _count(self, served: Served, more: int, at: datetime) -> None:
        hits, last = self._counts.get(served, (0, at))
        self._counts[served] = (hits + more, max(last, at))
