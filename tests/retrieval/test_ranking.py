"""The formulas of the ranking: their bounds, their order, and what they refuse."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.errors import InvalidInput
from lib.retrieval.ranking import (
    bm25,
    bm25_scores,
    hyperbolic_recency,
    idf,
    recency,
)

often = settings(max_examples=100, derandomize=True, deadline=None)
ages = st.floats(-1e6, 1e6)
half_lives = st.floats(1e-3, 1e6) | st.just(math.inf)
counts = st.floats(0, 50)


# --- age ------------------------------------------------------------------------------------------


@given(ages, ages, half_lives)
@often
def test_an_older_memory_never_weighs_more_and_never_more_than_one(a: float, b: float, half_life: float) -> None:
    younger, older = sorted((a, b))

    assert 0 <= recency(older, half_life) <= recency(younger, half_life) <= 1
    assert 0 < hyperbolic_recency(older) <= hyperbolic_recency(younger) <= 1


@given(st.floats(max_value=0, allow_nan=False), half_lives)
@often
def test_the_future_and_this_moment_are_new(age: float, half_life: float) -> None:
    assert recency(age, half_life) == hyperbolic_recency(age) == 1


@given(st.floats(0, 1000), st.floats(1, 1000))
@often
def test_a_half_life_more_halves_the_weight(age: float, half_life: float) -> None:
    assert recency(age + half_life, half_life) == pytest.approx(recency(age, half_life) / 2)


def test_with_an_endless_half_life_age_does_not_matter() -> None:
    assert recency(1e9, math.inf) == 1


@pytest.mark.parametrize("wrong", [0, -1, math.nan, -math.inf, "24", None, True], ids=repr)
def test_a_half_life_that_is_none_is_refused_by_its_value(wrong: Any) -> None:
    with pytest.raises(InvalidInput, match="half_life_hours must be") as refused:
        recency(1, wrong)

    assert repr(wrong) in str(refused.value)


# --- words ----------------------------------------------------------------------------------------


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
@often
def test_a_rarer_term_tells_more_and_none_tells_less_than_nothing(documents: int, a: int, b: int) -> None:
    rare, common = sorted((min(a, documents), min(b, documents)))

    assert idf(documents, rare) >= idf(documents, common) > 0


@given(st.dictionaries(st.sampled_from("abcd"), counts), st.floats(0, 100), st.floats(0, 100), st.data())
@often
def test_more_matches_never_score_less(having: dict, length: float, average: float, data: st.DataObject) -> None:
    idfs = data.draw(st.dictionaries(st.sampled_from("abcd"), st.floats(0.01, 15)))
    term, more = data.draw(st.sampled_from("abcd")), data.draw(counts)
    with_more = having | {term: having.get(term, 0) + more}

    score = bm25(having, length, average, idfs)

    assert 0 <= score <= sum(idfs.values()) * 1.4 + 1e-9
    assert bm25(with_more, length, average, idfs) >= score - 1e-9


@given(st.floats(0, 100), st.floats(0, 100), st.floats(0.1, 100))
@often
def test_of_two_documents_with_a_term_the_longer_never_scores_more(a: float, b: float, average: float) -> None:
    short, long = sorted((a, b))

    assert bm25({"x": 1}, short, average, {"x": 1}) >= bm25({"x": 1}, long, average, {"x": 1})


def test_a_document_without_the_terms_scores_nothing_whatever_its_length() -> None:
    assert bm25({"tea": 3}, 3, 3, {"exam": 2.0}) == bm25({}, 0, 0, {"exam": 2.0}) == bm25({"exam": 1}, 1, 1, {}) == 0


def test_bm25_of_texts_goes_by_stems_and_by_rarity() -> None:
    texts = ["The exam is on Friday", "Exams and an AWS exam", "Tea on Fridays", ""]

    by_exam, by_both = bm25_scores(texts, "Which exams?"), bm25_scores(texts, "AWS or tea on a Friday")

    assert by_exam[1] > by_exam[0] > by_exam[2] == by_exam[3] == 0
    assert by_both[2] > by_both[1] > by_both[0] > 0
    assert bm25_scores([], "exam") == [] and bm25_scores(["", ""], "") == [0, 0]
