"""What a cache does for its process: how often it answered, how fast, and what that saved."""

import threading
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from lib.database.tables import as_utc
from lib.errors import InvalidInput, ModelUnavailable, shown
from lib.html_table import html_table

if TYPE_CHECKING:
    from pandas import DataFrame

OUTCOMES = ("hit", "miss", "coalesced")
KEPT_MINUTES = 7 * 24 * 60  # with something in them; what is older is counted by type alone
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Tally:
    """Counts and sums of one kind of content, as answered by one model."""

    hits: int = 0
    misses: int = 0  # answered by a call of the model
    coalesced: int = 0  # waited for somebody else's call instead of making one
    cached_ms: float = 0.0  # time that hits took, in all
    generated_ms: float = 0.0  # the same of misses
    waited_ms: float = 0.0  # the same of coalesced ones
    saved_ms: float = 0.0  # what the model took for these contents, less what they took now
    tokens_in_saved: int = 0
    tokens_out_saved: int = 0

    def add(self, other: "Tally") -> None:
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class CacheMetrics:
    """Counts what `ContentCache` answers, in this process, from any number of threads.

    hits, misses and coalesced add up to the requests that were answered; one whose generation failed is none of them.

    >>> metrics = CacheMetrics()
    >>> when = datetime(2026, 3, 1, 12, tzinfo=UTC)
    >>> metrics.record("miss", "lesson", when, latency_ms=900.0, generation_ms=890.0)
    >>> metrics.record("hit", "lesson", when, latency_ms=0.5, generation_ms=890.0)
    >>> metrics.hits, metrics.requests, metrics.hit_rate
    (1, 2, 0.5)
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Count from 0 again."""
        with self._lock:
            self._by_type: dict[tuple[str, str | None], Tally] = defaultdict(Tally)
            # Minutes since 1970 -> the same as above; both by type and model, because models differ in price.
            self._by_minute: dict[int, dict[tuple[str, str | None], Tally]] = {}

    def record(
        self,
        outcome: str,
        content_type: str,
        at: datetime,
        *,
        latency_ms: float,
        generation_ms: float | None = None,
        model: str | None = None,
        tokens_in: int | None = None,
        tokens_out: int | None = None,
    ) -> None:
        """Count one answer.

        outcome: "hit", "miss" or "coalesced". at: aware. latency_ms: what the caller waited, in ms.
        generation_ms, model, tokens_in, tokens_out: of the call that made the content.
        Errors: InvalidInput.
        """
        if outcome not in OUTCOMES:
            raise InvalidInput(f"outcome must be one of {', '.join(OUTCOMES)}, not {shown(outcome)}.")
        one = Tally()
        if outcome == "miss":
            one.misses, one.generated_ms = 1, latency_ms
        else:
            one.saved_ms = (latency_ms if generation_ms is None else generation_ms) - latency_ms
            one.tokens_in_saved, one.tokens_out_saved = tokens_in or 0, tokens_out or 0
            if outcome == "hit":
                one.hits, one.cached_ms = 1, latency_ms
            else:
                one.coalesced, one.waited_ms = 1, latency_ms
        minute = (as_utc(at) - _EPOCH) // timedelta(minutes=1)
        with self._lock:
            self._by_type[content_type, model].add(one)
            if minute not in self._by_minute:
                self._by_minute[minute] = defaultdict(Tally)
            self._by_minute[minute][content_type, model].add(one)
            if len(self._by_minute) > KEPT_MINUTES:
                del self._by_minute[min(self._by_minute)]  # this one, if a clock went back so far

    @property
    def hits(self) -> int:
        """Answers that were there."""
        return self._total().hits

    @property
    def misses(self) -> int:
        """Answers that a model was asked for."""
        return self._total().misses

    @property
    def coalesced(self) -> int:
        """Answers that came from a call which somebody else had begun."""
        return self._total().coalesced

    @property
    def requests(self) -> int:
        """hits + misses + coalesced"""
        total = self._total()
        return total.hits + total.misses + total.coalesced

    @property
    def hit_rate(self) -> float:
        """hits / requests, 0 to 1; 0 before the first request."""
        return _summary([self._total()])["hit_rate"]

    @property
    def cost_saved_usd(self) -> float:
        """What hits and coalesced answers would have cost, by data/prices.csv; models without a price count as 0."""
        return sum(_cost_saved(model, tally) or 0.0 for (_, model), tally in self._copied(self._by_type))

    def by_type(self) -> "DataFrame":
        """A row for each content_type: counts, hit_rate, mean latencies and savings. See `data_frame` for the units."""
        return self._data_frame("content_type", ((kind, model, t) for (kind, model), t in self._copied(self._by_type)))

    def over_time(self, bucket: timedelta = timedelta(hours=1)) -> "DataFrame":
        """The same for each stretch of time with a request in it, in order; a row begins at its `at` (UTC).

        bucket: whole minutes. Of the last week of minutes that had requests; `by_type` counts all.
        """
        minutes = bucket // timedelta(minutes=1) if isinstance(bucket, timedelta) else 0
        if minutes < 1 or bucket % timedelta(minutes=1):
            raise InvalidInput(f"bucket must be a timedelta of whole minutes, not {shown(bucket)}.")
        with self._lock:
            rows = [
                (_EPOCH + timedelta(minutes=minute // minutes * minutes), model, _copy(tally))
                for minute in sorted(self._by_minute)
                for (_, model), tally in self._by_minute[minute].items()
            ]
        return self._data_frame("at", rows)

    def _data_frame(self, by: str, rows: Iterable[tuple[Any, str | None, Tally]]) -> "DataFrame":
        from pandas import DataFrame

        grouped: dict[Any, list[tuple[str | None, Tally]]] = defaultdict(list)
        for group, model, tally in rows:
            grouped[group].append((model, tally))
        columns = [by, *_summary([])]
        return DataFrame(
            [
                {by: group, **_summary([tally for _, tally in tallies]), "cost_saved_usd": _sum_of_costs(tallies)}
                for group, tallies in sorted(grouped.items(), key=lambda item: item[0])
            ],
            columns=columns,
        ).set_index(by)

    def _copied(self, tallies: dict[Any, Tally]) -> list[tuple[Any, Tally]]:
        with self._lock:
            return [(group, _copy(tally)) for group, tally in tallies.items()]

    def _total(self) -> Tally:
        total = Tally()
        for _, tally in self._copied(self._by_type):
            total.add(tally)
        return total

    def __repr__(self) -> str:
        total = self._total()
        return (
            f"{total.hits:,} hits, {total.misses:,} misses, {total.coalesced:,} coalesced: hit rate {self.hit_rate:.1%}"
        )

    def _repr_html_(self) -> str:
        total = self._total()
        counts = [f"{count:,}" for count in (total.hits, total.misses, total.coalesced)]
        return html_table(("hits", "misses", "coalesced", "hit rate"), [(*counts, f"{self.hit_rate:.1%}")])


def _copy(tally: Tally) -> Tally:
    copy = Tally()
    copy.add(tally)
    return copy


def _summary(tallies: Iterable[Tally]) -> dict[str, Any]:
    total = Tally()
    for tally in tallies:
        total.add(tally)
    requests = total.hits + total.misses + total.coalesced
    return {
        "requests": requests,
        "hits": total.hits,
        "misses": total.misses,
        "coalesced": total.coalesced,
        "hit_rate": total.hits / requests if requests else 0.0,
        "hit_ms": _mean(total.cached_ms, total.hits),
        "miss_ms": _mean(total.generated_ms, total.misses),
        "saved_seconds": total.saved_ms / 1000,
        "tokens_in_saved": total.tokens_in_saved,
        "tokens_out_saved": total.tokens_out_saved,
        "cost_saved_usd": None,
    }


def _mean(total: float, count: int) -> float:
    return total / count if count else float("nan")


def _cost_saved(model: str | None, tally: Tally) -> float | None:
    """None if tokens were saved whose price nobody knows."""
    from lib.llm import cost_usd

    if not tally.tokens_in_saved and not tally.tokens_out_saved:
        return 0.0
    try:
        return None if model is None else cost_usd(model, tally.tokens_in_saved, tally.tokens_out_saved)
    except ModelUnavailable:
        return None


def _sum_of_costs(tallies: Iterable[tuple[str | None, Tally]]) -> float:
    costs = [_cost_saved(model, tally) for model, tally in tallies]
    return float("nan") if None in costs else sum(costs)
