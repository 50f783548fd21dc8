"""The comparison of chapter 04 counts what it says it counts."""

from collections import Counter

import pytest
from conftest import empty
from sqlalchemy import Engine

from lib.llm.chat import chat_model
from lib.practice.practice_model import start_practice_model
from lib.store.memory_store import MemoryStore
from lib.workbook.lesson import load_memories, load_sessions
from lib.workbook.trials.formation import _right, try_strategies


@pytest.fixture(scope="module")
def model():
    with start_practice_model() as server:
        yield chat_model(practice=server)


def test_three_ways_are_compared_on_the_same_turns(sqlite_engine: Engine, model) -> None:
    engine = empty(sqlite_engine)
    sessions = load_sessions("zoe")[:2]
    gold = [memory for memory in load_memories("zoe") if memory["source_session"] <= "zoe-02"]
    user_turns = sum(turn["speaker"] == "user" for session in sessions for turn in session["turns"])

    trials = try_strategies(engine, model, sessions, gold)

    assert list(trials.index) == ["no memory", "hot path", "background", "hybrid"]
    calls, added, usable = trials["model calls"], trials["added mean, ms"], trials["usable after, turns"]
    assert calls["no memory"] == user_turns
    assert calls["background"] == user_turns + len(sessions)
    assert calls["hot path"] > user_turns
    assert added["no memory"] == added["background"] == 0
    assert usable["hot path"] == 1 < usable["background"]
    assert trials[["precision", "recall", "recall, semantic"]].stack().between(0, 1).all()
    assert trials["recall"]["no memory"] == 0 < trials["recall"]["hot path"] < trials["recall"]["background"]
    assert (trials["USD per 1,000 turns"] > 0).all()


def test_the_hybrid_stores_nothing_twice(sqlite_engine: Engine, model) -> None:
    engine = empty(sqlite_engine)
    try_strategies(engine, model, load_sessions("tomas")[:3], [])
    store = MemoryStore(engine)

    stored = {way: len(store.search(f"tomas ({way})", limit=None)) for way in ("background", "hybrid")}

    assert 0 < stored["hybrid"] <= stored["background"] + 1


def test_each_memory_of_the_careful_reader_counts_once() -> None:
    gold = [
        {"source_session": "a", "type": "semantic", "source_turn": 3},
        {"source_session": "a", "type": "episodic", "source_turn": 9},
    ]
    stored = [("a", 3, "semantic", 1), ("a", 3, "semantic", 1), ("a", 5, "semantic", 1), ("a", 1, "episodic", 1)]

    assert _right(stored, gold) == Counter(semantic=1, episodic=1)
