"""The comparison of chapter 06 counts what it says it counts, the same each time."""

from collections import Counter

import pytest
from conftest import empty
from sqlalchemy import Engine

from lib.agent.conversation import PATTERNS, Answer
from lib.llm.chat import chat_model
from lib.practice.practice_model import start_practice_model
from lib.retrieval.scored_memory import ScoredList, ScoredMemory
from lib.store.items import MemoryItem
from lib.workbook.lesson import TODAY, load_memories, store_people
from lib.workbook.trials.context import _measured, choose_moments, compare_patterns


@pytest.fixture(scope="module")
def model():
    with start_practice_model() as server:
        yield chat_model(practice=server)


def test_the_moments_are_ten_of_each_person_half_of_them_silent() -> None:
    moments = choose_moments()

    kinds = Counter((moment["person"], bool(moment["memories"])) for moment in moments)

    assert len(moments) == 30 and set(kinds.values()) == {5}
    assert {moment["split"] for moment in moments} == {"test"}


def test_four_patterns_are_compared_on_the_same_turns(sqlite_engine: Engine, model) -> None:
    engine = empty(sqlite_engine)
    store = store_people(engine)

    rows = {row["pattern"]: row for row in compare_patterns(store, model)}
    again = compare_patterns(store, model, patterns=["on demand"])

    assert list(rows) == list(PATTERNS)
    assert again == [rows["on demand"]]
    none, start, demand, proactive = rows.values()
    assert (none["memories_per_turn"], none["right_seen"], none["wrong_seen"]) == (0, 0, 0)
    assert none["prompt_tokens"] < proactive["prompt_tokens"] < demand["prompt_tokens"] < start["prompt_tokens"]
    assert none["model_calls"] == start["model_calls"] == proactive["model_calls"] == 30 < demand["model_calls"] <= 60
    assert start["right_seen"] >= demand["right_seen"] > proactive["right_seen"] > 0
    assert start["wrong_seen"] == 1 > demand["wrong_seen"] > proactive["wrong_seen"]
    assert proactive["spoke_in_silence"] <= 0.2


def test_a_right_memory_and_a_wrong_one_are_told_apart() -> None:
    memories = [memory for memory in load_memories("zoe") if not memory["superseded_by"]][:3]
    right, wrong, other = [
        ScoredMemory(MemoryItem("zoe", one["namespace"], one["key"], {}, TODAY, TODAY), 1.0, 1.0) for one in memories
    ]
    calls_for_it = {"person": "zoe", "memories": [memories[0]["id"]]}
    moments = [calls_for_it, calls_for_it, {"person": "zoe", "memories": []}, {"person": "zoe", "memories": []}]
    seen = [ScoredList([right]), ScoredList([wrong, other]), ScoredList([wrong]), ScoredList()]

    row = _measured(moments, [Answer("", "proactive", memories, 1, 10) for memories in seen])

    assert row == {
        "prompt_tokens": 40,
        "model_calls": 4,
        "memories_per_turn": 1.0,
        "right_seen": 0.5,
        "wrong_seen": 0.5,
        "spoke_in_silence": 0.5,
    }
