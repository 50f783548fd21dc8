"""How often each content was served: counted in memory, and added up in the database from time to time."""

import os
import threading
import time
from collections import Counter
from contextlib import suppress
from datetime import datetime
from itertools import groupby

from sqlalchemy import Engine, bindparam, update

from lib.cache._rows import CONTENTS, Entry, of_scope
from lib.database import bound
from lib.database.transactions import hold_user, write_transaction
from lib.errors import WorkbookError

FLUSH_HITS, FLUSH_SECONDS = 1000, 5.0

# The sum is made by the database: read, add and write would lose what another one adds meanwhile. Created at that
# moment: what has replaced a content since is another one, and wasn't read.
_ADD = (
    update(CONTENTS)
    .where(CONTENTS.c.content_hash == bindparam("hash"))
    .where(CONTENTS.c.created_at == bindparam("created", type_=CONTENTS.c.created_at.type))
    .values(access_count=CONTENTS.c.access_count + bindparam("hits"), last_accessed=bindparam("last"))
)
Served = tuple[str, str, datetime]  # user_id, "" if shared; content_hash; created_at


class HitCounts:
    """Hits that aren't in the database yet. An UPDATE for each would make a hit as slow as a write to the disk.

    The hit that is the 1,000th since the last time, or the first after 5 seconds, adds them up; so does `flush`, which
    `close` calls. A process that is killed, or ends without `close`, loses those since: 999 hits at most, and counts
    only.
    """

    def __init__(self, engine: Engine):
        self._engine, self._lock, self._process = engine, threading.Lock(), os.getpid()
        self._begin()

    def _begin(self) -> None:
        self._counts: Counter[Served] = Counter()
        self._last: dict[Served, datetime] = {}
        self._hits, self._flush_at = 0, time.monotonic() + FLUSH_SECONDS

    def _begin_if_forked(self) -> None:
        """In a process that was forked off, count from 0: what was counted before, its parent writes."""
        if self._process != os.getpid():
            self._lock, self._process = threading.Lock(), os.getpid()
            self._begin()

    def add(self, entry: Entry, created_at: datetime, at: datetime) -> None:
        """Count one hit. created_at: of the content that was served. at: the time of the hit."""
        if entry.scope.user_id is None and bound(self._engine):
            return  # the role of requests may read shared contents, not write to them: see ContentCache.on
        self._begin_if_forked()
        served = (entry.scope.user_id or "", entry.content_hash, created_at)
        with self._lock:
            self._counts[served] += 1
            self._last[served] = at
            self._hits += 1
            is_due = self._hits >= FLUSH_HITS or time.monotonic() >= self._flush_at
        if is_due:
            with suppress(WorkbookError):  # the content is served all the same, and the count waits for the next flush
                self.flush()

    def flush(self) -> None:
        """Add all that was counted until now to the database. After an error, it is still counted."""
        self._begin_if_forked()
        with self._lock:
            counts, last = self._counts, self._last
            self._begin()
        if not counts:
            return
        try:
            # All who add up take rows in one order, and a user's row before theirs: none waits for another in turn.
            with write_transaction(self._engine) as connection:
                for user_id, group in groupby(sorted(counts), lambda served: served[0]):
                    if user_id:
                        hold_user(connection, user_id)
                    rows = [
                        {"hash": served[1], "created": served[2], "hits": counts[served], "last": last[served]}
                        for served in group
                    ]
                    connection.execute(_ADD.where(of_scope(CONTENTS, user_id or None)), rows)
        except BaseException:
            with self._lock:
                self._counts.update(counts)
                self._last = last | self._last
            raise
