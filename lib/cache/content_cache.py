"""A cache of what models wrote: each content is generated once, by one of those who ask for it at the same time."""

import json
import re
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Engine

from lib.cache._eviction import Eviction, delete_type, evict
from lib.cache._hit_counts import HitCounts
from lib.cache._rows import KEPT, CacheRows, Entry
from lib.cache._single_flight import Flight, Flights, pauses
from lib.cache.content import Cached, Extras, Generated, checked_extras, checked_ms, checked_seconds, row_of
from lib.cache.metrics import CacheMetrics
from lib.cache.scope import Scope, checked_scope
from lib.database import CONTENT_TYPE_LENGTH, bound
from lib.database.tables import as_utc, utcnow
from lib.errors import DatabaseUnavailable, InvalidInput, NotYourRows, WorkbookError, shown
from lib.store.values import check_name

_KEY = re.compile(r"[0-9a-f]{64}").fullmatch


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
    flush_seconds: how long hits are counted in memory before the counts go into the database: see `HitCounts`.

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

    def __init__(
        self,
        engine: Engine,
        *,
        now: Callable[[], datetime] = utcnow,
        lease_seconds: float = 60,
        flush_seconds: float = 5,
    ):
        self._engine, self._now, self._rows = engine, now, CacheRows(engine)
        self._lease = checked_seconds(lease_seconds, "lease_seconds")
        self._counts = HitCounts(engine, checked_seconds(flush_seconds, "flush_seconds").total_seconds())
        self._flights = Flights()
        self.metrics = CacheMetrics()

    def on(self, engine: Engine) -> "ContentCache":
        """The same cache for a request: `cache.on(as_user(engine, "zoe"))` sees what zoe may see.

        Metrics, counts and the waiting for one another are those of this cache. Make one for each request.
        Errors: InvalidInput for an engine of another pool, which may lead to another database.
        """
        if not isinstance(engine, Engine) or engine.pool is not self._engine.pool or bound(self._engine):
            raise InvalidInput("on() needs as_user(engine, …) of the engine that this cache was made with.")
        view = object.__new__(ContentCache)
        view.__dict__.update(self.__dict__, _engine=engine, _rows=CacheRows(engine))
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
        generate: returns a JSON object of at most 10 MB, or a `Generated`. It must not ask for the same content, nor
            for one whose generation asks for this one.
        scope: SHARED or for_user("zoe"). One key in two scopes is two contents, and so it is with two content_types.
        ttl_seconds: how long what is generated will be served; None: until it is evicted or invalidated.
        input_summary: of the input, for who has to find out where a content came from; 200 characters are kept. For a
            user's scope leave it out if it would say more than the content does.
        Errors: InvalidInput; NotYourRows, on an engine of `as_user`, for what is SHARED and isn't there yet; whatever
        `generate` raises.
        """
        began, entry = time.perf_counter(), self._entry(key, content_type, scope)
        extras = checked_extras(ttl_seconds, input_summary)
        outcome = "hit"
        while (row := self._rows.find(entry, self.time())) is None:
            outcome = "coalesced"
            self._check_writable(scope)
            flight, leads = self._flights.join(entry, self._lease.total_seconds())
            if leads:
                try:
                    made, mine, valid = self._generate(entry, generate, extras, flight)
                    flight.row = made if valid else None
                finally:
                    self._flights.land(entry, flight)
                outcome = "miss" if mine else outcome
            else:
                if not flight.wait():
                    self._flights.land(entry, flight)  # it has had its time; who comes next may take over
                made = flight.row
            if made is not None:
                row = (json.loads(made[0]), *made[1:])
                break
        return self._answer(entry, row, outcome, began)

    def get(self, key: str, *, content_type: str, scope: Scope) -> Cached | None:
        """The content for this key, counted as a hit; None if there is none."""
        began, entry = time.perf_counter(), self._entry(key, content_type, scope)
        row = self._rows.find(entry, self.time())
        return None if row is None else self._answer(entry, row, "hit", began)

    def put(
        self,
        key: str,
        generated: Mapping[str, Any] | Generated,
        *,
        content_type: str,
        scope: Scope,
        ttl_seconds: float | None = None,
        input_summary: str | None = None,
        generation_ms: float | None = None,
    ) -> None:
        """Store a content that was generated elsewhere, in place of the one that may be there."""
        entry, now = self._entry(key, content_type, scope), self.time()
        self._check_writable(scope)
        extras = checked_extras(ttl_seconds, input_summary)
        row, _ = row_of(generated, now, checked_ms(generation_ms), extras)
        self._rows.put(entry, now, row)

    def check(self, *, content_type: str, scope: Scope, writing: bool = False) -> None:
        """Nothing, if this cache can be asked for such contents; else the error that every call would raise.

        writing: and can be given such.
        """
        self._entry("0" * 64, content_type, scope)
        if writing:
            self._check_writable(scope)

    def invalidate(self, key: str, *, content_type: str, scope: Scope) -> bool:
        """Delete one content; whether there was one. What somebody is generating for it just now isn't stored."""
        entry = self._entry(key, content_type, scope)
        self._check_writable(scope)
        self._flights.forget(lambda other: other == entry)
        return self._rows.delete(entry)

    def invalidate_type(self, content_type: str, *, scope: Scope | None = None) -> int:
        """Delete all contents of a type, of one scope or, without one, of all; returns how many there were."""
        check_name(content_type, "content_type", CONTENT_TYPE_LENGTH)
        if scope is not None:
            checked_scope(scope, self._engine)
        self._check_writable(scope)
        self._flights.forget(lambda other: other.content_type == content_type and scope in (None, other.scope))
        return delete_type(self._engine, content_type, scope)

    def evict(
        self,
        *,
        max_entries: int | None = None,
        max_bytes: int | None = None,
        older_than: timedelta | None = None,
        policy: str = "lru",
    ) -> int:
        """Delete what has expired, then as much as it takes to keep the limits; returns how many contents went.

        max_entries, max_bytes: of all contents that stay, of all users. older_than: since they were generated.
        policy: who goes first: "lru", what wasn't used for longest, or "lfu", what was used least.
        In small transactions, which wait for nobody, so it may run beside everything else, also twice. Counts of
        other processes are up to flush_seconds old.
        """
        self.flush()
        return evict(self._engine, self.time(), Eviction(max_entries, max_bytes, older_than, policy))

    def flush(self) -> None:
        """Add the hits that were counted until now to `access_count` and `last_accessed` in the database."""
        self._counts.flush()

    def close(self) -> None:
        """Flush; the cache can be used further, and is closed again then."""
        self.flush()

    def __enter__(self) -> "ContentCache":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def time(self) -> datetime:
        """The time by this cache's clock, aware."""
        return as_utc(self._now())

    def _entry(self, key: str, content_type: str, scope: Scope) -> Entry:
        checked_scope(scope, self._engine)
        check_name(content_type, "content_type", CONTENT_TYPE_LENGTH)
        if not isinstance(key, str) or not _KEY(key):
            raise InvalidInput(f"a key must be 64 hexadecimal digits, not {shown(key)}. Use content_hash(…).")
        return Entry.of(key, content_type, scope)

    def _check_writable(self, scope: Scope | None) -> None:
        """Requests read what is SHARED and don't write it: one user's could put words into the answers of all."""
        if (user := bound(self._engine)) and (scope is None or scope.user_id is None):
            raise NotYourRows(
                f"this engine is bound to the user {user.user_id!r}, and contents that all users share are generated "
                "and deleted by the owner's: use ContentCache(engine), with the engine that as_user was given, and "
                f"nobody's data. For this user's own contents, write scope=for_user({user.user_id!r})."
            )

    def _answer(self, entry: Entry, row: tuple[Any, ...], outcome: str, began: float) -> Cached:
        at = self.time()
        if outcome != "miss":
            self._counts.add(entry, row[1], at)
        cached = Cached(row[0], outcome, (time.perf_counter() - began) * 1000, *row[1:])
        self.metrics.record(
            outcome, entry.content_type, at, latency_ms=cached.latency_ms, generation_ms=cached.generation_ms,
            model=cached.model, tokens_in=cached.tokens_in, tokens_out=cached.tokens_out,
        )  # fmt: skip
        return cached

    def _stored(self, entry: Entry, owner: str, row: dict[str, Any]) -> bool:
        """Whether nobody else stored this content meanwhile. What is paid for isn't lost with the database."""
        try:
            return self._rows.complete(entry, owner, row)
        except DatabaseUnavailable as error:
            warnings.warn(f"a {entry.content_type} was generated and couldn't be stored: {error}", stacklevel=4)
            self._release(entry, owner)
            return True

    def _generate(
        self, entry: Entry, generate: Callable[[], Any], extras: Extras, flight: "Flight"
    ) -> tuple[tuple[Any, ...], bool, bool]:
        """((content as JSON, *KEPT), whether we made it, whether others may have it, too).

        Waits as long as another process has the lease.
        """
        for pause in pauses():
            now = self.time()
            flight.until = time.monotonic() + self._lease.total_seconds()  # those who wait for us needn't wait longer
            owner = None if self._rows.is_leased(entry, now) else self._rows.claim(entry, now, now + self._lease)
            try:
                # Looked for after the claim: it may have been stored since the last look, and its lease given up.
                found = self._rows.find(entry, now)
            except BaseException:
                self._release(entry, owner)
                raise
            if found:
                self._release(entry, owner)
                return (json.dumps(found[0]), *found[1:]), False, True
            if owner:
                break
            time.sleep(pause)
        began = time.perf_counter()
        try:
            output = generate()
            elapsed = (time.perf_counter() - began) * 1000
            row, as_json = row_of(output, self.time(), elapsed, extras)
            stored = self._stored(entry, owner, row)
        except BaseException:
            self._release(entry, owner)
            raise
        if not stored and (found := self._rows.find(entry, self.time())):
            return (json.dumps(found[0]), *found[1:]), True, True  # who took over was faster: all are served the same
        # Not stored, and not there: it was invalidated, or its user forgotten, while we made it. Who asked before that
        # has it; those who joined us may have asked afterwards.
        return (as_json, *[row[name] for name in KEPT]), True, stored

    def _release(self, entry: Entry, owner: str | None) -> None:
        if owner is not None:
            with suppress(WorkbookError):  # it lapses by itself; the error of the caller is the one to be seen
                self._rows.release(entry, owner)
