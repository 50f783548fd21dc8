"""How often each content was served: counted in memory, added up in the database every few seconds."""

import atexit
import threading
from contextlib import suppress
from datetime import datetime

from sqlalchemy import Engine, bindparam, case, or_, select, update

from lib.cache._forked import reset_in_child
from lib.cache._rows import Entry, of_scope
from lib.database import CachedContent, bound
from lib.database.transactions import autocommit_connection, write_transaction
from lib.errors import WorkbookError

FLUSH_ENTRIES = 1000  # different contents counted in memory before they are flushed early
BATCH = 500  # rows of one statement

_contents = CachedContent.__table__
_at = bindparam("at", type_=_contents.c.last_accessed.type)
_made = bindparam("made", type_=_contents.c.created_at.type)
_later = or_(_contents.c.last_accessed.is_(None), _contents.c.last_accessed < _at)
# The sum is made by the database: read, add and write would lose what another one adds meanwhile.
_add = update(_contents).values(
    access_count=_contents.c.access_count + bindparam("more"),
    last_accessed=case((_later, _at), else_=_contents.c.last_accessed),
)

# Created at that moment: what has replaced it since is another content, and wasn't read.
Place = tuple[str | None, str, datetime]  # user_id, content_hash, created_at
Counts = dict[Place, tuple[int, datetime]]  # -> hits, the last of them


class HitCounts:
    """Hits that aren't in the database yet. An UPDATE for each would make a hit as slow as a write to the disk.

    A thread adds them up `flush_seconds` after the first, and so does the end of the process; one that is killed
    loses at most those of the last `flush_seconds`. Counts only: no content is ever lost.
    """

    def __init__(self, engine: Engine, flush_seconds: float):
        self._engine, self._seconds = engine, flush_seconds
        self.reset()
        reset_in_child(self)  # the parent adds its own

    def reset(self) -> None:
        """Nothing is counted."""
        self._lock, self._flushing = threading.Lock(), threading.Lock()  # the first for an instant only
        self._counts: Counts = {}
        self._flush_now: threading.Event | None = None  # of the thread that waits; None: nothing is to be added

    def add(self, entry: Entry, created_at: datetime, at: datetime) -> None:
        """Count one hit. created_at: of the content that was served."""
        user_id = entry.scope.user_id
        if user_id is None and bound(self._engine):
            return  # the role of requests may read shared contents, not write to them: see ContentCache.on
        place = (user_id, entry.content_hash, created_at)
        with self._lock:
            hits, last = self._counts.get(place, (0, at))
            self._counts[place] = (hits + 1, max(last, at))
            if self._flush_now is None:
                self._flush_now = threading.Event()
                try:
                    threading.Thread(target=self._flush_later, args=(self._flush_now,), daemon=True).start()
                except RuntimeError:  # no more threads to be had; the next hit tries again, and the end of the process
                    self._flush_now = None
                atexit.unregister(self._flush_quietly)  # those of a flush that failed are still to be added
                atexit.register(self._flush_quietly)  # last in, first out: before the end of a server we started
            if self._flush_now is not None and len(self._counts) >= FLUSH_ENTRIES:
                self._flush_now.set()

    def flush(self) -> None:
        """Add all that was counted until now to the database. After an error, it is still counted."""
        with self._flushing:  # so that who comes second returns when the first one's counts are there, too
            with self._lock:
                counts, self._counts = self._counts, {}
                if self._flush_now is not None:
                    self._flush_now.set()
                    self._flush_now = None
            try:
                for user_id in sorted({place[0] for place in counts}, key=lambda user_id: user_id or ""):
                    self._flush_user(user_id, counts)
            finally:
                self._settle(counts)

    def _flush_user(self, user_id: str | None, counts: Counts) -> None:
        places = sorted(place for place in counts if place[0] == user_id)
        own = of_scope(_contents, user_id)
        this = _add.where(own, _contents.c.content_hash == bindparam("this"), _contents.c.created_at == _made)
        for start in range(0, len(places), BATCH):
            some = places[start : start + BATCH]
            among = _contents.c.content_hash.in_([place[1] for place in some])
            free = select(_contents.c.content_hash).where(own, among).with_for_update(skip_locked=True)
            with write_transaction(self._engine) as connection:
                held = set(connection.scalars(free))
                ours = [place for place in some if place[1] in held]
                if ours:
                    connection.execute(this, [_more(counts, place) for place in ours])
            for place in ours:
                del counts[place]
        # Those that somebody else held: one by one, so that we never hold a row while we wait for the next.
        for place in places:
            if place in counts:
                with autocommit_connection(self._engine) as connection:
                    connection.execute(this, _more(counts, place))
                del counts[place]  # also if its content is gone: there is nothing to count any more

    def _settle(self, left: Counts) -> None:
        """After a flush: what it couldn't add is counted still."""
        with self._lock:
            for place, (hits, last) in left.items():
                more, later = self._counts.get(place, (0, last))
                self._counts[place] = (hits + more, max(last, later))
            if not self._counts:
                atexit.unregister(self._flush_quietly)

    def _flush_later(self, flush_now: threading.Event) -> None:
        flush_now.wait(self._seconds)
        if flush_now is self._flush_now:
            self._flush_quietly()

    def _flush_quietly(self) -> None:
        # There is nobody to tell; what couldn't be added is added with the next hit, or by flush(), which does tell.
        with suppress(WorkbookError, Exception):
            self.flush()


def _more(counts: Counts, place: Place) -> dict[str, object]:
    hits, last = counts[place]
    return {"this": place[1], "made": place[2], "more": hits, "at": last}
