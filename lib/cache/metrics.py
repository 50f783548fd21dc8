"""What a cache does for its process: how often it answered, how fast, and what that saved."""

import math
import threading
from collections import defaultdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from lib.cache._tallies import Address, Tally, cost_saved, table
from lib.cache.content import Cached
from lib.database.tables import as_utc
from lib.records import html_table

if TYPE_CHECKING:
    from pandas import DataFrame


class CacheMetrics:
    """Counts what `ContentCache` answers, in this process, from any number of threads.

    hits: answers that were there. misses: those that a model was asked for. coalesced: those of a call that somebody
    else had begun. A request whose generation failed is none of them.

    >>> from datetime import UTC
    >>> metrics = CacheMetrics()
    >>> when = datetime(2026, 3, 1, 12, tzinfo=UTC)
    >>> for outcome, latency_ms in (("miss", 900.0), ("hit", 0.5)):
    ...     metrics.record(Cached({}, outcome, latency_ms, when, generation_ms=890.0), "lesson", when)
    >>> metrics.hits, metrics.requests, metrics.hit_rate
    (1, 2, 0.5)
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Count from 0 again."""
        with self._lock:
            self.hits = self.misses = self.coalesced = 0
            self._tallies: dict[Address, Tally] = {}

    def record(self, answer: Cached, content_type: str, at: datetime) -> None:
        """Count one answer, given out at that time (aware)."""
        hour = as_utc(at).replace(minute=0, second=0, microsecond=0)
        with self._lock:
            self.hits += answer.outcome == "hit"
            self.misses += answer.outcome == "miss"
            self.coalesced += answer.outcome == "coalesced"
            tally = self._tallies.setdefault((hour, content_type, answer.model), defaultdict(int))
            tally[answer.outcome] += 1
            tally[f"{answer.outcome}_ms"] += answer.latency_ms
            if answer.outcome != "miss":
                if answer.generation_ms is not None:
                    tally["saved_ms"] += answer.generation_ms - answer.latency_ms
                tally["tokens_in"] += answer.tokens_in or 0
                tally["tokens_out"] += answer.tokens_out or 0

    @property
    def requests(self) -> int:
        """hits + misses + coalesced"""
        return self.hits + self.misses + self.coalesced

    @property
    def hit_rate(self) -> float:
        """hits / requests, 0 to 1; 0 before the first request."""
        return self.hits / (self.requests or 1)

    @property
    def cost_saved_usd(self) -> float:
        """What hits and coalesced answers would have cost, by data/prices.csv; models without a price count as 0."""
        costs = (cost_saved(model, tally) for (_, _, model), tally in list(self._tallies.items()))
        return sum(cost for cost in costs if not math.isnan(cost))

    def by_type(self) -> "DataFrame":
        """A row for each content_type: counts, hit_rate, mean latencies and savings; the names say the units."""
        return table("content_type", ((kind, model, tally) for (_, kind, model), tally in list(self._tallies.items())))

    def over_time(self, bucket: timedelta = timedelta(hours=1)) -> "DataFrame":
        """The same for each stretch of time with a request in it, in order; a row begins at its `at` (UTC).

        bucket: whole hours, as the counts are kept by the hour.
        """
        from pandas import Timestamp

        tallies = list(self._tallies.items())
        return table("at", ((Timestamp(hour).floor(bucket), model, tally) for (hour, _, model), tally in tallies))

    def __repr__(self) -> str:
        return f"{self.hits:,} hits, {self.misses:,} misses, {self.coalesced:,} coalesced: hit rate {self.hit_rate:.1%}"

    def _repr_html_(self) -> str:
        counts = [f"{count:,}" for count in (self.hits, self.misses, self.coalesced)]
        return html_table(("hits", "misses", "coalesced", "hit rate"), [(*counts, f"{self.hit_rate:.1%}")])
