"""What chapter 08 tries caches with: traffic, the simulation of eviction, bills and break-even."""

from itertools import pairwise

import pytest

from lib.cache.cache_key import content_hash
from lib.cache.content_cache import ContentCache
from lib.cache.scope import SHARED
from lib.errors import InvalidInput
from lib.llm._prices import DEFAULT_MODEL, cost_usd
from lib.workbook.lesson import at_once
from lib.workbook.trials.caching import (
    LOOKUP_USD,
    bill_usd,
    conversations,
    entry_usd,
    hit_rate,
    least_generation_usd,
    load_question_pairs,
    load_requests,
    similarities,
    zipf_traffic,
)


def test_requests_are_read_with_aware_times_in_order():
    requests = load_requests()

    assert len(requests) == 5000 and all(request["time"].tzinfo for request in requests)
    assert [r["time"] for r in requests] == sorted(r["time"] for r in requests)
    assert isinstance(requests[0]["tokens"], int)


@pytest.mark.parametrize("policy", ["lru", "lfu"])
@pytest.mark.parametrize("every", [1, 25])
def test_the_simulation_and_the_cache_agree_to_the_request(engine, clock, policy, every):
    requests = load_requests()[:300]
    cache = ContentCache(engine, now=clock)

    for number, request in enumerate(requests, start=1):
        clock.time = request["time"]
        key = content_hash(request["topic"], request["level"])
        cache.get_or_generate(key, lambda: {"text": ""}, content_type="lesson", scope=SHARED)
        if number % every == 0:
            cache.evict(max_entries=20, policy=policy)

    asked = [(request["topic"], request["level"]) for request in requests]
    assert cache.metrics.hit_rate == hit_rate(asked, 20, policy, every=every)


def test_no_policy_beats_the_one_that_knows_the_future():
    for asked in (zipf_traffic(1.0, contents=60, requests=800), zipf_traffic(0, contents=60, requests=800)):
        for size in (5, 20, 50):
            best = hit_rate(asked, size, "optimal")

            assert best >= max(hit_rate(asked, size, "lru"), hit_rate(asked, size, "lfu"))


def test_a_cache_that_holds_everything_misses_each_content_once():
    asked = zipf_traffic(0.7, contents=50, requests=1000)

    for policy in ("lru", "lfu", "optimal"):
        assert hit_rate(asked, 50, policy) == 1 - len(set(asked)) / len(asked)
        assert hit_rate(asked, 0, policy) == 0


def test_an_unknown_policy_is_refused():
    with pytest.raises(InvalidInput, match="mru"):
        hit_rate([1, 2], 1, "mru")


def test_so_many_conversations_were_said_before():
    many = conversations(1000, alike=300)
    texts = [conversation.transcript[0]["text"] for conversation in many]

    assert len(many) == len({conversation.user_id for conversation in many}) == 1000
    assert len(set(texts)) == 700
    assert many[-1].user_id == "zoe" and texts.count(texts[-1]) == 1


def test_a_bill_is_the_sum_of_the_calls():
    requests = load_requests()[:50]
    each = [cost_usd(DEFAULT_MODEL, 1000, request["tokens"]) for request in requests]
    new = {(r["topic"], r["level"]): cost_usd(DEFAULT_MODEL, 1000, r["tokens"]) for r in requests}

    assert bill_usd(requests, prefix_tokens=1000) == pytest.approx(sum(each))
    assert bill_usd(requests, prefix_tokens=1000, contents_cached=True) == pytest.approx(sum(new.values()))
    # gpt-5.4-mini: 0.75 USD a million tokens, 0.075 for those that the provider has.
    saved = 1000 * (0.75 - 0.075) / 1_000_000
    gaps = [(after["time"] - before["time"]).total_seconds() / 60 for before, after in pairwise(requests)]
    assert 0 < sum(gap < 10 for gap in gaps) < 49
    for minutes in (10, 24 * 60):
        found = sum(gap < minutes for gap in gaps)
        assert bill_usd(requests, prefix_tokens=1000, prefix_minutes=minutes) == pytest.approx(
            sum(each) - found * saved
        )
    assert bill_usd([], prefix_tokens=1000, prefix_minutes=10) == 0


@pytest.mark.parametrize("rate", [0.01, 0.3, 1.0])
def test_at_the_least_cost_of_a_generation_its_hits_pay_for_looks_and_storage(rate):
    storage = entry_usd(kilobytes=40, months=6)

    least = least_generation_usd(rate, storage)

    assert rate * least == pytest.approx(LOOKUP_USD + (1 - rate) * storage)


def test_without_hits_nothing_pays():
    assert least_generation_usd(0, entry_usd()) == float("inf")


def test_half_of_the_question_pairs_may_share_an_answer_and_none_is_there_twice():
    pairs = load_question_pairs()

    assert len(pairs) == 24 and sum(pair["same_answer"] for pair in pairs) == 12
    assert len({(pair["first"], pair["second"]) for pair in pairs}) == 24
    assert all(pair["first"] != pair["second"] for pair in pairs)


def test_the_most_similar_questions_have_different_answers():
    scores = similarities(pairs := load_question_pairs())
    ranked = sorted(zip(scores, pairs, strict=True), key=lambda scored: -scored[0])

    assert not any(pair["same_answer"] for _, pair in ranked[:3])


def test_threads_that_start_at_once_give_back_what_they_returned_or_raised():
    numbers = iter([1, 0, 2])

    found = at_once(3, lambda: 2 / next(numbers))

    assert sorted(map(str, found)) == ["1.0", "2.0", "division by zero"]
