"""A cache of what models wrote: each content is generated once, by one of those who ask for it at the same time."""

import time
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Engine

from lib.cache._access import check_access
from lib.cache._columns import checked_options, checked_seconds, columns_of
from lib.cache._eviction import delete_type, evict
from lib.cache._generation import find_or_generate
from lib.cache._hit_counts import HitCounts
from lib.cache._rows import CacheRows, Entry
from lib.cache.content import Cached, Generated
from lib.cache.metrics import CacheMetrics
from lib.cache.scope import SHARED, Scope
from lib.database import CONTENT_TYPE_LENGTH, bound
from lib.database.tables import as_utc, utcnow
from lib.errors import InvalidInput
from lib.store.values import check_name


class ContentCache:
    """Contents by the hash of what they were made from: look, or generate once and store.

    Of all that ask for a new content at the same time, in any number of threads and processes, one generates it and
    the others wait. The one holds no connection meanwhile, but a lease: if it dies, another one takes over as soon as
    the lease has lapsed. An error of `generate` goes to its caller, nothing is stored, and the next one tries; so give
    the model a timeout, since those who wait try one after the other. If the model answered and the database is away by
    then, the answer is given out, with a warning that it wasn't stored.

    engine: of the owner of the tables; on one of `as_user`, contents of that user and, to read, those that are SHARED.
    now: the time, for leases as well: several computers need clocks that agree to a second.
    lease_seconds: longer than the model takes, and short enough to wait for after a crash.

    Every 1,000th hit adds the counts of hits to the database, and so does the first one after 5 seconds, and `close`
    (or the end of a `with` block). A process that is killed, or ends without it, loses the counts since; contents are
    never lost.

    >>> from lib.cache.cache_key import content_hash
    >>> from lib.database.engine import connect, create_tables
    >>> from lib.cache.scope import SHARED
    >>> engine = connect("sqlite://")
    >>> create_tables(engine)
    >>> cache = ContentCache(engine)
    >>> key = content_hash("Explain S3.", model="practice-model", temperature=0)
    >>> for _ in range(2):
    ...     answer = cache.get_or_generate(key, lambda: {"text": "A store."}, content_type="lesson", scope=SHARED)
    ...     print(answer.outcome, answer.content)
    miss {'text': 'A store.'}
    hit {'text': 'A store.'}
    """

    def __init__(self, engine: Engine, *, now: Callable[[], datetime] = utcnow, lease_seconds: float = 60):
        self.engine, self._now, self._rows = engine, now, CacheRows(engine)
        self._lease = checked_seconds("lease_seconds", lease_seconds)
        self._counts = HitCounts(engine)
        self.metrics = CacheMetrics()

    def on(self, engine: Engine) -> "ContentCache":
        """The same cache for a request: `cache.on(as_user(engine, "zoe"))` sees what zoe may see.

        Metrics, counts and the waiting for one another are those of this cache. Make one for each request.
        Errors: InvalidInput for an engine of another pool, which may lead to another database.
        """
        if not isinstance(engine, Engine) or engine.pool is not self.engine.pool or bound(self.engine):
            raise InvalidInput("on() needs as_user(engine, …) of the engine that this cache was made with.")
        view = copy(self)
        view.engine, view._rows = engine, CacheRows(engine)
        return view

    def get_or_generate(
        self,
        key: str,
        generate: Callable[[], Mapping[str, Any] | Generated],
        *,
        content_type: str,
        scope: Scope,
        ttl_seconds: float | None = None,
        input_summary: str | None = None,
    ) -> Cached:
        """The content for this key; if there is none, `generate` makes it, once for all that ask meanwhile.

        key: of `content_hash`. content_type: such as "lesson"; 50 characters.
        generate: returns a JSON object of at most 10 MB, or a `Generated`. If it asked for the same content, or for one
            whose generation asks for this one, it would wait for itself until the lease lapses.
        scope: SHARED or for_user("zoe"). One key in two scopes is two contents, and so it is with two content_types.
        ttl_seconds: how long what is generated will be served; None: until it is evicted or invalidated.
        input_summary: of the input, for who has to find out where a content came from; 200 characters are kept. For a
            user's scope leave it out if it would say more than the content does.
        Errors: InvalidInput; NotYourRows, on an engine of `as_user`, for what is SHARED and isn't there yet; whatever
        `generate` raises.
        """
        began, entry = time.perf_counter(), self._entry(key, content_type, scope)
        options = checked_options(ttl_seconds, input_summary)
        answer = self._rows.find(entry, self.time())
        if answer is None:
            check_access(self.engine, scope, writes=True)
            answer = find_or_generate(self._rows, entry, generate, options, self.time, self._lease)
        return self._given_out(answer, entry, began)

    def get(self, key: str, *, content_type: str, scope: Scope) -> Cached | None:
        """The content for this key, counted as a hit; None if there is none."""
        began, entry = time.perf_counter(), self._entry(key, content_type, scope)
        answer = self._rows.find(entry, self.time())
        return None if answer is None else self._given_out(answer, entry, began)

    def put(
        self,
        key: str,
        generated: Mapping[str, Any] | Generated,
        *,
        content_type: str,
        scope: Scope,
        ttl_seconds: float | None = None,
        input_summary: str | None = None,
    ) -> None:
        """Store a content that was generated elsewhere, in place of the one that may be there."""
        entry, now = self._entry(key, content_type, scope, writes=True), self.time()
        options = checked_options(ttl_seconds, input_summary)
        self._rows.put(entry, now, columns_of(generated, now, options))

    def invalidate(self, key: str, *, content_type: str, scope: Scope) -> bool:
        """Delete one content; whether there was one. What somebody is generating for it just now isn't stored."""
        return self._rows.delete(self._entry(key, content_type, scope, writes=True))

    def invalidate_type(self, content_type: str, *, scope: Scope | None = None) -> int:
        """Delete all contents of a type, of one scope or, without one, of all; returns how many there were."""
        check_name(content_type, "content_type", CONTENT_TYPE_LENGTH)
        check_access(self.engine, SHARED if scope is None else scope, writes=True)
        return delete_type(self.engine, content_type, scope)

    def evict(
        self,
        *,
        max_entries: int | None = None,
        older_than: timedelta | None = None,
        policy: str = "lru",
    ) -> int:
        """Delete what has expired, then as much as it takes to keep the limits; return how many contents went.

        max_entries: of all types and users together. older_than: since they were generated.
        policy: who goes first: "lru", what wasn't used for longest, or "lfu", what was used least.
        In small transactions, which wait for nobody, so it may run beside everything else, also twice. It knows
        the hits of other processes as far as those have flushed them.
        """
        check_access(self.engine, SHARED, writes=True)
        self.flush()
        return evict(self.engine, self.time(), max_entries, older_than, policy)

    def flush(self) -> None:
        """Add the hits that were counted until now to `access_count` and `last_accessed` in the database."""
        self._counts.flush()

    def close(self) -> None:
        """Flush; the cache can be used further, and is to be closed again then."""
        self.flush()

    def __enter__(self) -> "ContentCache":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def time(self) -> datetime:
        """The time by this cache's clock, aware."""
        return as_utc(self._now())

    def _entry(self, key: str, content_type: str, scope: Scope, *, writes: bool = False) -> Entry:
        check_access(self.engine, scope, writes=writes)
        return Entry.of(key, content_type, scope)

    def _given_out(self, answer: Cached, entry: Entry, began: float) -> Cached:
        at = self.time()
        if answer.outcome != "miss":
            self._counts.add(entry, answer.created_at, at)
        answer = replace(answer, latency_ms=(time.perf_counter() - began) * 1000)
        self.metrics.record(answer, entry.content_type, at)
        return answer
