"""One generation for all who ask: a lock for the threads of a process, and a lease in the database for everybody.

The lock saves threads the polling. Who may generate is decided by the lease: a row that says who does, and until when.
"""

import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from lib.cache._columns import Options, columns_of
from lib.cache._rows import CacheRows, Entry, cached
from lib.cache.content import Cached
from lib.errors import DatabaseUnavailable, InvalidInput, WorkbookError

FIRST_PAUSE, MAX_PAUSE = 0.01, 0.5  # seconds between looks at what another process generates


class KeyLocks:
    """A lock for each content that this process is generating just now."""

    def __init__(self) -> None:
        # No lock around them, since `setdefault`, `pop`, `add` and `discard` are atomic.
        self._locks: dict[Entry, threading.Lock] = {}
        self._threads: set[tuple[int, Entry]] = set()  # that generate, and what

    @contextmanager
    def held(self, entry: Entry, seconds: float) -> Iterator[None]:
        """Hold the lock of this content for the block; who has waited so many seconds for it goes on without.

        Errors: InvalidInput, if this very thread holds it.
        """
        thread = (threading.get_ident(), entry)
        if thread in self._threads:
            raise InvalidInput(
                "generate asked for the very content that it is to generate, and would wait for itself. Give what "
                "it needs in between a key of its own, such as content_hash(…, step=1)."
            )
        lock = self._locks.setdefault(entry, threading.Lock())
        is_ours = lock.acquire(timeout=seconds)
        self._threads.add(thread)
        try:
            yield
        finally:
            self._threads.discard(thread)
            if is_ours:
                self._locks.pop(entry, None)
                lock.release()


def find_or_generate(
    rows: CacheRows,
    entry: Entry,
    generate: Callable[[], Any],
    options: Options,
    clock: Callable[[], datetime],
    lease: timedelta,
) -> Cached:
    """Return the content: "coalesced" if somebody else made it, a "miss" if we did.

    Waits as long as another one has the lease. No connection is held meanwhile, nor while we generate.
    """
    pause = FIRST_PAUSE
    while True:
        now = clock()
        if stored := rows.find(entry, now):
            return replace(stored, outcome="coalesced")
        if owner := rows.claim(entry, now, now + lease):
            break
        time.sleep(pause)
        pause = min(pause * 1.5, MAX_PAUSE)
    try:
        if stored := rows.find(entry, now):  # stored since we looked, and its lease given up
            return replace(stored, outcome="coalesced")
        began = time.perf_counter()
        output = generate()
        elapsed_ms = (time.perf_counter() - began) * 1000
        columns = columns_of(output, clock(), options) | {"generation_ms": elapsed_ms}
        ours = cached(columns, "miss")
        try:
            if rows.complete(entry, owner, columns):
                return ours
        except DatabaseUnavailable as error:  # what is paid for isn't lost with the database
            warnings.warn(f"a {entry.content_type} was generated and couldn't be stored: {error}", stacklevel=3)
            return ours
        # The lease is lost. If somebody took over and was faster, all are served the same. Else the content was
        # invalidated, or its user forgotten, while we made it: who asked before that has it, and nobody else.
        return replace(rows.find(entry, clock()) or ours, outcome="miss")
    finally:
        with suppress(WorkbookError):  # it lapses by itself; the error of the caller is the one to be seen
            rows.release(entry, owner)
