"""What a cache says of itself: exact under threads, priced by the price table, by type and over time."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from conftest import START, Clock
from sqlalchemy import Engine

from lib.cache.cache_key import content_hash
from lib.cache.content import Cached, Generated
from lib.cache.content_cache import ContentCache
from lib.cache.metrics import CacheMetrics
from lib.cache.scope import SHARED
from lib.errors import InvalidInput
from lib.llm._prices import cost_usd

PAID = {"generation_ms": 900.0, "model": "gpt-5.4-mini", "tokens_in": 1000, "tokens_out": 200}


def record(
    metrics: CacheMetrics, outcome: str, content_type: str, at: datetime, latency_ms: float, **paid: Any
) -> None:
    metrics.record(Cached({}, outcome, latency_ms, START, **paid), content_type, at)


def test_what_hits_save_is_what_their_contents_had_cost(engine: Engine, clock: Clock) -> None:
    cache = ContentCache(engine, now=clock)

    for number in (1, 2, 1, 1, 2):
        cache.get_or_generate(
            content_hash(number), lambda: Generated({}, 1000, 200, "gpt-5.4-mini"), content_type="lesson", scope=SHARED
        )
    cache.close()

    metrics = cache.metrics
    assert (metrics.hits, metrics.misses, metrics.coalesced, metrics.requests) == (3, 2, 0, 5)
    assert metrics.hit_rate == 0.6
    assert metrics.cost_saved_usd == pytest.approx(3 * cost_usd("gpt-5.4-mini", 1000, 200))
    assert repr(metrics) == "3 hits, 2 misses, 0 coalesced: hit rate 60.0%"


def test_each_type_has_a_row_of_its_own() -> None:
    metrics = CacheMetrics()
    record(metrics, "miss", "lesson", START, latency_ms=1000.0, **PAID)
    record(metrics, "hit", "lesson", START, latency_ms=2.0, **PAID)
    record(metrics, "hit", "lesson", START, latency_ms=4.0, **PAID | {"model": "gpt-5.5"})
    record(metrics, "coalesced", "quiz", START, latency_ms=500.0, **PAID)

    by_type = metrics.by_type()

    assert list(by_type.index) == ["lesson", "quiz"]
    lesson = by_type.loc["lesson"]
    assert (lesson.requests, lesson.hits, lesson.misses, lesson.hit_ms, lesson.miss_ms) == (3, 2, 1, 3.0, 1000.0)
    assert lesson.saved_seconds == pytest.approx((898 + 896) / 1000)
    assert lesson.cost_saved_usd == pytest.approx(cost_usd("gpt-5.4-mini", 1000, 200) + cost_usd("gpt-5.5", 1000, 200))
    assert (by_type.loc["quiz"].tokens_in_saved, by_type.loc["quiz"].saved_seconds) == (1000, pytest.approx(0.4))


def test_over_time_in_stretches_of_any_hours() -> None:
    metrics = CacheMetrics()
    for minutes, outcome in ((0, "miss"), (14, "hit"), (15, "hit"), (59, "hit"), (120, "miss")):
        at = (START + timedelta(minutes=minutes)).astimezone(timezone(timedelta(hours=5)))
        record(metrics, outcome, "lesson", at, latency_ms=1.0)

    hourly, daily = metrics.over_time(), metrics.over_time(timedelta(days=1))

    assert list(hourly.index) == [START, START + timedelta(hours=2)]
    assert list(hourly.hits) == [3, 0] and list(hourly.hit_rate) == [0.75, 0.0]
    assert list(daily.requests) == [5]


def test_before_the_first_request_there_is_nothing_and_no_error() -> None:
    metrics = CacheMetrics()

    assert (metrics.hit_rate, metrics.cost_saved_usd, len(metrics.by_type()), len(metrics.over_time())) == (0, 0, 0, 0)
    assert "hit_rate" in metrics.by_type().columns


def test_a_price_that_nobody_knows_is_no_number_and_not_nothing() -> None:
    metrics = CacheMetrics()
    record(metrics, "hit", "lesson", START, latency_ms=1.0, **PAID | {"model": "unheard-of"})

    assert metrics.by_type().cost_saved_usd.isna().all()
    assert metrics.cost_saved_usd == 0


def test_threads_lose_no_count() -> None:
    metrics, barrier = CacheMetrics(), threading.Barrier(8)

    def hit_often(_: int) -> None:
        barrier.wait()
        for _ in range(500):
            record(metrics, "hit", "lesson", START, latency_ms=1.0, **PAID)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(hit_often, range(8)))

    assert metrics.hits == 4000
    assert metrics.by_type().tokens_in_saved.sum() == 4_000_000


def test_reset_counts_from_0_again() -> None:
    metrics = CacheMetrics()
    record(metrics, "hit", "lesson", START, latency_ms=1.0)

    metrics.reset()

    assert (metrics.requests, len(metrics.by_type())) == (0, 0)


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(InvalidInput):
        record(CacheMetrics(), "hit", "lesson", datetime(2026, 3, 1), latency_ms=1.0)


def test_it_shows_as_a_table_in_a_notebook() -> None:
    metrics = CacheMetrics()
    record(metrics, "hit", "lesson", datetime(2026, 3, 1, tzinfo=UTC), latency_ms=1.0)

    assert "100.0%" in metrics._repr_html_()
