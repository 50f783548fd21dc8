"""The comparison of chapter 04 counts what it says it counts."""

from collections import Counter

import pytest
from conftest import empty
from sqlalchemy import Engine

from lib.llm.chat_model import chat_model
from lib.practice.practice_model import start_practice_model
from lib.workbook.lesson import load_memories, load_sessions
from lib.workbook.trials import Results
from lib.workbook.trials.formation import Trial, _right, try_strategies


@pytest.fixture(scope="module")
def model():
    with start_practice_model() as server:
        yield chat_model(practice=server)


def test_three_ways_are_compared_on_the_same_turns(sqlite_engine: Engine, model) -> None:
    engine = empty(sqlite_engine)
    sessions = load_sessions("zoe")[:2]
    gold = [memory for memory in load_memories("zoe") if memory["source_session"] <= "zoe-02"]
    user_turns = sum(turn["speaker"] == "user" for session in sessions for turn in session["turns"])

    trials = {t.strategy: t for t in try_strategies(engine, model, sessions, gold)}

    assert list(trials) == ["no memory", "hot path", "background", "hybrid"]
    assert len(trials["hot path"].added_ms) == len(trials["hybrid"].added_ms) == user_turns
    assert trials["no memory"].calls == user_turns
    assert trials["background"].calls == user_turns + len(sessions)
    assert trials["hot path"].calls > user_turns
    assert trials["background"].added_ms == [] and trials["background"].row()["added mean, ms"] == 0
    assert trials["hot path"].usable_after == 1 < trials["background"].usable_after
    assert trials["background"].recall_of("episodic") == 1
    for trial in trials.values():
        assert 0 <= trial.precision <= 1 and 0 <= trial.recall <= 1


def test_the_hybrid_stores_nothing_twice(sqlite_engine: Engine, model) -> None:
    engine = empty(sqlite_engine)
    trials = {t.strategy: t for t in try_strategies(engine, model, load_sessions("tomas")[:3], [])}

    assert 0 < len(trials["hybrid"].stored) <= len(trials["background"].stored) + 1


def test_each_memory_of_the_careful_reader_counts_once() -> None:
    gold = [
        {"source_session": "a", "type": "semantic", "source_turn": 3},
        {"source_session": "a", "type": "episodic", "source_turn": 9},
    ]
    stored = [("a", 3, "semantic", 1), ("a", 3, "semantic", 1), ("a", 5, "semantic", 1), ("a", 1, "episodic", 1)]

    assert _right(stored, gold) == Counter(semantic=1, episodic=1)


def test_a_table_of_trials_shows_their_numbers() -> None:
    trial = Trial("hot path", 2, [10.0, 30.0], 4, 1_000_000, 0, "practice-model", [("a", 1, "semantic", 1)])
    trial.right, trial.gold = Counter(semantic=1), Counter(semantic=2)

    (row,) = Results([trial]).rows()

    assert row["added mean, ms"] == 20 and row["precision"] == 1 and row["recall"] == 0.5
    assert row["USD per 1,000 turns"] == 375
    assert "hot path" in Results([trial])._repr_html_()
