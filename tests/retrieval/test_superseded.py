"""Superseded memories: the newer of two that tell one thing stands first, and nothing else moves, whatever the keys."""

import csv
import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from conftest import START, Clock
from hypothesis import given, settings
from hypothesis import strategies as st

from lib import MemoryStore, connect, create_tables
from lib.retrieval._candidates import Candidate
from lib.retrieval.scored_memory import ScoredMemory
from lib.retrieval.search import Weights, retrieve
from lib.retrieval.superseded import Ranked, newest_first
from lib.store.items import MemoryItem
from lib.text_terms import stems
from lib.workbook.lesson import TODAY, load_memories, load_questions
from lib.workbook.lesson import Clock as LessonClock
from lib.workbook.trials.evaluation import evaluate, store_all_versions
from lib.workbook.trials.retrieval import by_weights

# Two facts, the older one first, and a question: of siblings about the older one, of versions for the newer one.
PAIRS = list(csv.DictReader(Path(__file__).with_name("pairs_of_facts.csv").open(encoding="utf-8")))
SIBLINGS, VERSIONS = ([pair for pair in PAIRS if pair["kind"] == kind] for kind in ("siblings", "versions"))
EAST, NEAR_EAST, NORTH = [1.0, 0.0], [0.8, 0.6], [0.0, 1.0]


def memory(
    key: str,
    score: float,
    content: str = "",
    *,
    day: int = 0,
    vector: list[float] = EAST,
    namespace: str = "facts",
    **value: Any,
) -> tuple[Candidate, ScoredMemory]:
    moment = START + timedelta(days=day)
    item = MemoryItem("ada", namespace, key, {"content": content or key} | value, moment, moment)
    terms = dict.fromkeys(stems(item.value["content"]), 1.0)
    candidate = Candidate(0, item, terms, 1.0, np.array(vector, np.float32), moment, None)
    return candidate, ScoredMemory(item, score, score)


def order(ranked: Ranked, query: str = "") -> list[str]:
    ranked = newest_first(ranked, stems(query))
    return [scored.item.key for _, scored in sorted(ranked, key=lambda pair: -pair[1].score)]


OLD, TEA = memory("a", 0.9, "The exam is on Friday."), memory("c", 0.8, "Likes tea.", vector=NORTH)


# --- what says so -----------------------------------------------------------------------------------------------------


def test_one_that_names_the_key_of_an_older_one_takes_its_place_and_says_why() -> None:
    ranked = [OLD, TEA, memory("b", 0.2, "Monday it is.", day=1, vector=NORTH, supersedes="a")]

    assert order(ranked) == ["b", "c", "a"]  # the places are exchanged, and tea keeps its own
    assert [scored.note for _, scored in newest_first(ranked, [])] == ["older than b", "", "newer than a"]


def test_it_may_name_several() -> None:
    ranked = [OLD, memory("b", 0.6, "The exam is in Lund."), memory("d", 0.3, "No exam.", day=1, supersedes=["a", "b"])]

    assert order(ranked) == ["d", "a", "b"] or order(ranked) == ["d", "b", "a"]


def test_of_three_the_newest_stands_first() -> None:
    ranked = [
        memory("a", 0.9),
        memory("c", 0.5, day=2, vector=NORTH, supersedes="b"),
        memory("b", 0.6, day=1, vector=NORTH, supersedes="a"),
    ]

    assert order(ranked) == ["c", "b", "a"]


def test_a_newer_one_that_stands_first_already_stays_as_it_is() -> None:
    ranked = [memory("b", 0.9, day=1, supersedes="a"), memory("a", 0.5)]

    assert newest_first(ranked, []) == ranked


def test_what_was_right_at_the_time_that_is_asked_about_keeps_its_place() -> None:
    candidate, scored = OLD
    then = candidate, replace(scored, parts={"time": 1.0})
    now = memory("b", 0.8, day=1, supersedes="a")

    assert order([then, now]) == ["a", "b"]
    assert order([OLD, now]) == ["b", "a"]


@pytest.mark.parametrize(
    "other",
    [
        memory("b", 0.5, day=1, namespace="goals", supersedes="a"),
        memory("b", 0.5, day=0, supersedes="a"),  # of the same moment
        memory("b", 0.5, day=-1, supersedes="a"),
        memory("b", 0.5, day=1, supersedes="z"),
        memory("b", 0.5, day=1, supersedes=None),
        memory("b", 0.5, day=1, supersedes={"a": 1}),
        memory("b", 0.5, day=1, supersedes=["A", 7, None]),
    ],
)
def test_what_names_no_older_one_of_its_namespace_stays_below(other: tuple[Candidate, ScoredMemory]) -> None:
    assert order([OLD, other]) == ["a", "b"]


# --- what is guessed --------------------------------------------------------------------------------------------------

MOVED = "The exam was moved from Friday to Monday."


def test_a_word_of_change_in_a_sentence_that_is_alike_supersedes_the_older_one() -> None:
    assert order([OLD, memory("b", 0.7, MOVED, day=1)], "When is the exam?") == ["b", "a"]


@pytest.mark.parametrize(
    ("other", "query"),
    [
        (memory("a_2", 0.7, "The exam is on Monday.", day=1), "exam"),  # nothing says that the first isn't
        (memory("b", 0.7, MOVED, day=1, vector=NORTH), "exam"),  # of something else
        (memory("b", 0.7, MOVED, day=1, namespace="goals"), "exam"),
        (memory("b", 0.5, MOVED, day=1), "exam"),  # hardly an answer
        (memory("b", 0.7, MOVED, day=0), "exam"),
        (memory("b", 0.7, MOVED, day=1, type="episodic"), "exam"),
        (memory("b", 0.7, "Physics was moved to Monday.", day=1), "When is the exam?"),  # the older one is asked for
    ],
)
def test_in_doubt_the_older_one_keeps_its_place(other: tuple[Candidate, ScoredMemory], query: str) -> None:
    assert order([OLD, other], query)[0] == "a"


def test_what_happened_is_never_superseded() -> None:
    ranked = [
        memory("a", 0.9, "Ran 5 km.", namespace="episodes"),
        memory("b", 0.8, "Now ran 6 km instead of 5.", day=1, namespace="episodes", supersedes="a"),
    ]

    assert newest_first(ranked, []) == ranked


def test_none_and_one_stay_as_they_are() -> None:
    assert newest_first([], []) == []
    assert newest_first([OLD], []) == [OLD]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "c", "d"]),
            st.sampled_from(["", MOVED, "The exam is on Friday."]),
            st.floats(0.1, 1),
            st.integers(0, 5),
            st.sampled_from([EAST, NEAR_EAST, NORTH, [0.0, 0.0]]),
            st.sampled_from([None, "a", "b", ["c", "d"]]),
        ),
        max_size=8,
    )
)
@settings(max_examples=200, derandomize=True, deadline=None)
def test_nothing_is_lost_and_scores_are_only_exchanged(drawn: list[tuple[Any, ...]]) -> None:
    ranked = [
        memory(key, score, text, day=day, vector=vector, supersedes=older)
        for key, text, score, day, vector, older in drawn
    ]

    after = newest_first(ranked, ["exam"])

    assert [scored.item for _, scored in after] == [scored.item for _, scored in ranked]
    assert sorted(scored.score for _, scored in after) == sorted(scored.score for _, scored in ranked)
    assert all(bool(new[1].note) == (new[1].score != old[1].score) for new, old in zip(after, ranked, strict=True))


# --- on facts and with names that it wasn't made for ------------------------------------------------------------------


def keys_of(store: MemoryStore, clock: Clock, pair: dict[str, str], **value: Any) -> tuple[list[str], list[str]]:
    """The keys that come back for the pair's question, with the rule and without it."""
    store.forget_user("ada")
    store.put("ada", "facts", "k0", {"content": pair["older"]})
    clock.advance(days=30)
    store.put("ada", "facts", "k1", {"content": pair["newer"]} | value)
    clock.advance(days=30)
    return tuple(
        [scored.item.key for scored in retrieve(store, "ada", pair["question"], newest_versions=rule)]
        for rule in (True, False)
    )


@pytest.fixture
def own_store(clock: Clock) -> MemoryStore:
    engine = connect("sqlite://")
    create_tables(engine)
    return MemoryStore(engine, now=clock)


def test_siblings_never_change_places(own_store: MemoryStore, clock: Clock) -> None:
    ranked = [(keys_of(own_store, clock, pair), pair) for pair in SIBLINGS]

    assert [pair for (with_rule, without), pair in ranked if with_rule != without] == []


def test_of_versions_that_are_linked_the_newest_stands_first_and_of_others_most(
    own_store: MemoryStore, clock: Clock
) -> None:
    linked = [keys_of(own_store, clock, pair, supersedes="k0")[0][0] for pair in VERSIONS]
    guessed = [keys_of(own_store, clock, pair) for pair in VERSIONS]

    assert linked == ["k1"] * len(VERSIONS)
    with_rule, without = ([keys[side][0] for keys in guessed].count("k1") for side in (0, 1))
    assert without <= 3 and with_rule >= 18


NAMINGS: dict[str, Callable[[int], str] | None] = {
    "our own": None,
    "numbered": "doc{}".format,
    "hashes": lambda n: hashlib.sha256(str(n).encode()).hexdigest()[:12],
    "all but a suffix": lambda n: f"memory_{chr(97 + n % 26)}{chr(97 + n // 26)}",
}


def evaluated(naming: str, *, linked: bool = False, rule: bool = True) -> pandas.DataFrame:
    """How the questions about the three people fare, where the memories' keys are named so."""
    clock, engine = LessonClock(), connect("sqlite://")
    create_tables(engine)
    store = MemoryStore(engine, now=clock)

    def store_at(moment: datetime) -> MemoryStore:
        clock.now = moment
        return store

    ids = store_all_versions(store_at, load_memories(), name=NAMINGS[naming], linked=linked)
    clock.now = TODAY
    return evaluate(by_weights(store, ids, Weights(), newest_versions=rule), load_questions("dev"), load_memories())


@pytest.fixture(scope="module")
def unruled() -> pandas.DataFrame:
    return evaluated("our own", rule=False)


@pytest.mark.parametrize("naming", NAMINGS)
def test_whatever_the_keys_the_guess_costs_nothing_and_finds_more_of_what_is_current(
    unruled: pandas.DataFrame, naming: str
) -> None:
    ruled = evaluated(naming)

    assert ruled.recall.mean() >= unruled.recall.mean() - 0.01
    assert (ruled.reciprocal_rank == 1).mean() >= (unruled.reciprocal_rank == 1).mean() - 0.01
    assert ruled.newest_first.mean() >= unruled.newest_first.mean() + 0.3


@pytest.mark.parametrize("naming", ["our own", "numbered"])
def test_what_is_linked_is_found_to_be_current(naming: str) -> None:
    assert evaluated(naming, linked=True).newest_first.mean() >= 0.95
