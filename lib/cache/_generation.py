"""One generation for all who ask, in any thread or process: who generates has a lease, and the others look again."""

import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from lib.cache._columns import Options, columns_of
from lib.cache._rows import CacheRows, Entry, cached
from lib.cache.content import Cached
from lib.errors import DatabaseUnavailable, WorkbookError

FIRST_PAUSE, MAX_PAUSE = 0.01, 0.5  # seconds between looks at what somebody else generates


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
