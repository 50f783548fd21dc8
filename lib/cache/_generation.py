"""Finding a content, or generating it under a lease: a row in the database that says who does, and until when."""

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import Any

from lib.cache._columns import Options, columns_of
from lib.cache._rows import CacheRows, Entry, StoredContent
from lib.errors import DatabaseUnavailable, WorkbookError

FIRST_PAUSE, MAX_PAUSE = 0.01, 0.5  # seconds between looks at what another process generates


def find_or_generate(
    rows: CacheRows,
    entry: Entry,
    generate: Callable[[], Any],
    options: Options,
    clock: Callable[[], datetime],
    lease: timedelta,
) -> tuple[StoredContent, str]:
    """Return the content, and its outcome: "coalesced" if somebody else made it, "miss" if we did.

    Waits as long as another one has the lease. No connection is held meanwhile, nor while we generate.
    """
    pause = FIRST_PAUSE
    while True:
        now = clock()
        if stored := rows.find(entry, now):
            return stored, "coalesced"
        if owner := rows.claim(entry, now, now + lease):
            break
        time.sleep(pause)
        pause = min(pause * 1.5, MAX_PAUSE)
    with _released_at_the_end(rows, entry, owner):
        if stored := rows.find(entry, now):  # stored since we looked, and its lease given up
            return stored, "coalesced"
        began = time.perf_counter()
        output = generate()
        elapsed_ms = (time.perf_counter() - began) * 1000
        columns = columns_of(output, clock(), elapsed_ms, options)
        ours = StoredContent(*[columns[name] for name in StoredContent._fields])
        try:
            if rows.complete(entry, owner, columns):
                return ours, "miss"
        except DatabaseUnavailable as error:  # what is paid for isn't lost with the database
            warnings.warn(f"a {entry.content_type} was generated and couldn't be stored: {error}", stacklevel=3)
            return ours, "miss"
        # The lease is lost. If somebody took over and was faster, all are served the same. Else the content was
        # invalidated, or its user forgotten, while we made it: who asked before that has it, and nobody else.
        return rows.find(entry, clock()) or ours, "miss"


@contextmanager
def _released_at_the_end(rows: CacheRows, entry: Entry, owner: str) -> Iterator[None]:
    try:
        yield
    finally:
        with suppress(WorkbookError):  # it lapses by itself; the error of the caller is the one to be seen
            rows.release(entry, owner)
