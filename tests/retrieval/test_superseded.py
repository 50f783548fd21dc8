"""Newer versions: the newer of two memories about one thing stands first, and nothing else moves."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from conftest import START
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.retrieval._candidates import Candidate
from lib.retrieval.scored_memory import ScoredMemory
from lib.retrieval.superseded import Ranked, newer_versions
from lib.store.items import MemoryItem

EAST, NEAR_EAST, NORTH = [1.0, 0.0], [0.9, 0.43], [0.0, 1.0]


def memory(
    key: str, score: float, *, day: int = 0, vector: list[float] = EAST, namespace: str = "facts", **value: Any
) -> tuple[Candidate, ScoredMemory]:
    moment = START + timedelta(days=day)
    item = MemoryItem("ada", namespace, key, {"content": key} | value, moment, moment)
    candidate = Candidate(0, item, {}, 1.0, np.array(vector, np.float32), moment, None)
    return candidate, ScoredMemory(item, score, score)


def order(ranked: Ranked) -> list[str]:
    return [scored.item.key for _, scored in sorted(newer_versions(ranked), key=lambda pair: -pair[1].score)]


def test_of_two_values_of_one_key_the_newer_stands_first_and_says_why() -> None:
    ranked = [memory("exam_date", 0.9), memory("tea", 0.8, vector=NORTH), memory("exam_date_2", 0.5, day=1)]

    assert order(ranked) == ["exam_date_2", "tea", "exam_date"]  # the places are exchanged, and tea keeps its own
    notes = [scored.note for _, scored in newer_versions(ranked)]
    assert notes == ["older than exam_date_2", "", "newer than exam_date"]


def test_what_was_right_at_the_time_that_is_asked_about_keeps_its_place() -> None:
    candidate, scored = memory("study_days", 0.9)
    then = candidate, replace(scored, parts={"time": 1.0})
    now = memory("study_days_2", 0.8, day=1)

    assert order([then, now]) == ["study_days", "study_days_2"]
    assert order([memory("study_days", 0.9), now]) == ["study_days_2", "study_days"]


def test_of_three_the_newest_stands_first() -> None:
    ranked = [memory("plan_1", 0.9), memory("plan_3", 0.5, day=2), memory("plan_2", 0.6, day=1)]

    assert order(ranked) == ["plan_3", "plan_2", "plan_1"]


def test_a_newer_one_that_stands_first_already_stays_as_it_is() -> None:
    ranked = [memory("plan_2", 0.9, day=1), memory("plan_1", 0.5)]

    assert newer_versions(ranked) == ranked


@pytest.mark.parametrize(
    "other",
    [
        memory("exam_date_2", 0.5, day=1, vector=NORTH),  # about something else
        memory("exam_place", 0.5, day=1),  # alike, but nothing says that it is the same thing
        memory("exam_date_2", 0.5, day=1, namespace="goals"),
        memory("exam_date_2", 0.4, day=1),  # hardly an answer
        memory("exam_date_2", 0.5, day=0),  # of the same moment
        memory("exam_date_2", 0.5, day=-1),
        memory("exam_date_2", 0.5, day=1, type="episodic"),
    ],
)
def test_what_is_no_newer_version_stays_below(other: tuple[Candidate, ScoredMemory]) -> None:
    assert order([memory("exam_date", 0.9), other])[0] == "exam_date"


def test_a_topic_in_common_makes_two_memories_about_one_thing() -> None:
    old = memory("lives_in", 0.9, topics=["home", "city"])

    assert order([old, memory("moved", 0.5, day=1, topics=["home"])]) == ["moved", "lives_in"]
    assert order([old, memory("moved", 0.5, day=1, vector=NEAR_EAST, topics=["home"])]) == ["moved", "lives_in"]
    assert order([old, memory("moved", 0.5, day=1, topics=["work"])]) == ["lives_in", "moved"]
    assert order([old, memory("moved", 0.5, day=1, topics="home")]) == ["moved", "lives_in"]  # a text is one topic
    assert order([old, memory("moved", 0.5, day=1, topics="h")]) == ["lives_in", "moved"]
    assert order([old, memory("moved", 0.5, day=1, topics=[["home"], None])]) == ["lives_in", "moved"]


def test_what_happened_has_no_versions() -> None:
    ranked = [memory("visit_1", 0.9, namespace="episodes"), memory("visit_2", 0.5, day=1, namespace="episodes")]

    assert newer_versions(ranked) == ranked


def test_keys_that_are_only_numbers_say_nothing() -> None:
    assert order([memory("17", 0.9), memory("2026-03-01", 0.5, day=1)]) == ["17", "2026-03-01"]


def test_none_and_one_stay_as_they_are() -> None:
    alone = [memory("plan_1", 0.9)]

    assert newer_versions([]) == []
    assert newer_versions(alone) == alone


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["plan_1", "plan_2", "tea", "exam"]),
            st.floats(0.1, 1),
            st.integers(0, 5),
            st.sampled_from([EAST, NEAR_EAST, NORTH, [0.0, 0.0]]),
        ),
        max_size=8,
    )
)
@settings(max_examples=200, derandomize=True, deadline=None)
def test_nothing_is_lost_and_scores_are_only_exchanged(drawn: list[tuple[str, float, int, list[float]]]) -> None:
    ranked = [memory(key, score, day=day, vector=vector) for key, score, day, vector in drawn]

    after = newer_versions(ranked)

    assert [scored.item for _, scored in after] == [scored.item for _, scored in ranked]
    assert sorted(scored.score for _, scored in after) == sorted(scored.score for _, scored in ranked)
    assert all(bool(new[1].note) == (new[1].score != old[1].score) for new, old in zip(after, ranked, strict=True))
