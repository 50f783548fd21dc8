"""Retrieval as a whole: what is found, in which order, why, and that no question is an error of the database."""

import json
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import START, Clock, empty
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine
from word_embedder import WordEmbedder

from lib.errors import InvalidInput, TablesMissing
from lib.llm.embeddings import LocalEmbedder
from lib.retrieval._explanation import PARTS
from lib.retrieval.scored_memory import ScoredList, ScoredMemory
from lib.retrieval.search import MAX_QUERY_LENGTH, Weights, retrieve
from lib.store.items import MemoryItem, MemoryList
from lib.store.memory_store import MemoryStore

DATA = Path(__file__).parents[2] / "data"
LEXICAL, SEMANTIC = Weights(1, 0, 0, 0, 0), Weights(0, 1, 0, 0, 0)


@pytest.fixture
def embedder() -> WordEmbedder:
    return WordEmbedder()


@pytest.fixture
def ask(store: MemoryStore, embedder: WordEmbedder) -> Any:
    """`retrieve` for ada, with the embedder of the tests."""
    return lambda query, **options: retrieve(store, "ada", query, **{"embedder": embedder} | options)


def put(store: MemoryStore, key: str, content: str, *, namespace: str = "facts", **value: Any) -> None:
    store.put("ada", namespace, key, {"content": content} | value)


def keys(found: ScoredList) -> list[str]:
    return [scored.item.key for scored in found]


# --- what is found --------------------------------------------------------------------------------


def test_the_memories_that_answer_come_first_and_each_once(store: MemoryStore, ask: Any) -> None:
    for key, content in (("tea", "green tea"), ("rum", "black rum"), ("both", "rum in the tea"), ("sea", "sails")):
        put(store, key, content)

    found = ask("Is there rum in the tea?", limit=3)

    assert keys(found)[0] == "both"
    assert sorted(keys(found)[1:]) == ["rum", "tea"]
    assert [s.score for s in found] == sorted((s.score for s in found), reverse=True)


@pytest.mark.parametrize("limit", [0, 1, 2, 3, 1000])
def test_as_many_come_as_the_limit_allows(store: MemoryStore, ask: Any, limit: int) -> None:
    for key in ("a", "b", "c"):
        put(store, key, f"tea {key}")

    assert len(ask("tea", limit=limit)) == min(limit, 3)


def test_a_former_name_of_an_option_still_works_and_says_the_new_one(store: MemoryStore, ask: Any) -> None:
    for key in ("a", "b", "c"):
        put(store, key, f"tea {key}")

    with pytest.warns(DeprecationWarning, match="k is called limit now"):
        memories = ask("tea", k=2)
    with pytest.raises(InvalidInput, match="both were given"):
        ask("tea", k=2, limit=3)

    assert len(memories) == 2


@pytest.mark.parametrize("count", [310, 640])
def test_as_many_come_as_are_asked_for_and_are_there(store: MemoryStore, ask: Any, count: int) -> None:
    def rows(namespace: str) -> list[tuple[str, str, dict[str, Any]]]:
        return [(namespace, f"k{n}", {"content": f"tea {n} drink", "even": n % 2 == 0}) for n in range(count)]

    store.put_many("ada", rows("facts"))
    store.put_many("ada", rows("goals")[: count // 2])
    half, everything = count // 2, count + count // 2

    assert len(ask("some tea", limit=1000)) == everything
    assert len(ask("some tea", limit=everything - 1)) == everything - 1
    assert len(ask("rum", limit=count, namespaces=["facts"])) == count
    assert len(ask("tea 7", limit=count, namespaces=["facts"], filter={"even": True})) == half
    assert len(ask("tea 7", limit=half - 3, namespaces=["facts"], filter={"even": True})) == half - 3
    assert len({(scored.item.namespace, scored.item.key) for scored in ask("tea", limit=1000)}) == everything


def test_lapsed_memories_take_no_places_of_others(store: MemoryStore, ask: Any, clock: Clock) -> None:
    for number in range(260):
        ends = START + timedelta(hours=1) if number % 2 else None
        store.put("ada", "facts", str(number), {"content": f"tea {number}"}, expires_at=ends)
    clock.advance(hours=2)

    assert len(ask("tea", limit=130)) == len(ask("tea", limit=1000)) == 130


@pytest.mark.parametrize("query", ["", " ", "\n\t"])
def test_an_empty_question_has_no_answer(store: MemoryStore, ask: Any, embedder: WordEmbedder, query: str) -> None:
    put(store, "tea", "green tea")

    assert ask(query) == []
    assert embedder.batches == []


def test_a_user_of_whom_nothing_is_known_has_no_memories(ask: Any) -> None:
    assert ask("tea") == []


@pytest.mark.parametrize(
    "condition",
    [
        {"namespaces": ["goals"]},
        {"filter": {"kind": "goal"}},
        {"topics": ["rare"]},
        {"key_prefix": "g-"},
        {"since": START + timedelta(days=1)},
        {"min_confidence": 0.9},
        {"namespaces": ["goals", "unknown"], "topics": ["rare"], "min_confidence": 0.9},
    ],
    ids=repr,
)
def test_k_come_even_if_conditions_exclude_nearly_all(
    store: MemoryStore, ask: Any, clock: Clock, condition: dict[str, Any]
) -> None:
    store.put_many("ada", [("facts", f"f-{n}", {"content": f"green tea {n}", "confidence": 0.5}) for n in range(400)])
    clock.advance(days=1)
    goal = {"content": "some day, tea", "kind": "goal", "topics": ["rare"], "confidence": 0.9}
    store.put_many("ada", [("goals", f"g-{n}", goal) for n in range(5)])

    found = ask("green tea", limit=5, **condition)

    assert sorted(keys(found)) == [f"g-{n}" for n in range(5)]


def test_until_leaves_out_what_came_later(store: MemoryStore, ask: Any, clock: Clock) -> None:
    put(store, "old", "tea")
    clock.advance(days=1)
    put(store, "new", "tea")

    assert keys(ask("tea", until=clock())) == ["old"]


def test_many_lapsed_memories_hide_none_that_is_there(store: MemoryStore, ask: Any, clock: Clock) -> None:
    for number in range(200):
        store.put("ada", "facts", f"l{number}", {"content": "green tea"}, expires_at=START + timedelta(days=1))
    put(store, "there", "tea some day, or another drink")
    assert keys(ask("green tea", limit=1)) != ["there"]

    clock.advance(days=1)

    assert keys(ask("green tea")) == ["there"]
    assert keys(ask("green tea", namespaces=["facts"])) == ["there"]


def test_what_is_less_relevant_than_asked_for_is_left_out(store: MemoryStore, ask: Any) -> None:
    put(store, "tea", "green tea")
    put(store, "sea", "sails at night")

    everything = ask("green tea")
    [best, other] = [scored.relevance for scored in everything]

    assert keys(ask("green tea", min_relevance=0)) == keys(everything) == ["tea", "sea"]
    assert keys(ask("green tea", min_relevance=(best + other) / 2)) == ["tea"]
    assert ask("green tea", min_relevance=best + 0.01) == []


# --- the parts of a score -------------------------------------------------------------------------


def test_each_part_alone_orders_by_itself(store: MemoryStore, ask: Any, clock: Clock) -> None:
    put(store, "old", "green tea", importance=1.0)
    clock.advance(days=90)
    put(store, "new", "green tea, and then some more to drink", importance=0.0)

    for weights, first in (
        (LEXICAL, "old"),
        (SEMANTIC, "old"),
        (Weights(0.001, 0, recency=1), "new"),
        (Weights(0.001, 0, recency=0, importance=1), "old"),
    ):
        found = ask("green tea", weights=weights)
        assert keys(found)[0] == first
        used = {part for part in PARTS if getattr(weights, part)}
        assert all({part for part, amount in s.contributions.items() if amount} <= used for s in found)


def test_every_part_lies_between_0_and_1(store: MemoryStore, ask: Any) -> None:
    for number, importance in enumerate([-5, 0.3, 7, "high", None, True, math.pi]):
        put(store, f"k{number}", f"green tea {'tea ' * number}", importance=importance)

    found = ask("green tea with tea")

    assert len(found) == 5
    assert all(0 <= value <= 1.000001 for scored in found for value in scored.parts.values())


def test_importance_is_what_the_value_says_and_counts_only_if_asked(store: MemoryStore, ask: Any) -> None:
    put(store, "low", "green tea", importance=0.1)
    put(store, "none", "green tea")
    put(store, "high", "green tea", importance=0.9)

    assert keys(ask("tea", weights=Weights(importance=0.3))) == ["high", "none", "low"]
    assert {scored.contributions["importance"] for scored in ask("tea")} == {0}


def test_an_old_memory_that_answers_stays_above_a_new_one_that_does_not(
    store: MemoryStore, ask: Any, clock: Clock
) -> None:
    put(store, "old", "the exam is about green tea")
    clock.advance(days=700)
    put(store, "new", "sails at night")

    for weight in (0.05, 1, 100):
        found = ask("When is the exam about green tea?", weights=Weights(recency=weight))
        assert keys(found) == ["old", "new"]
        assert found[1].contributions["recency"] == 0


def test_of_memories_that_answer_alike_the_newest_comes_first(store: MemoryStore, ask: Any, clock: Clock) -> None:
    for key in ("first", "second", "third"):
        put(store, key, "green tea")
        clock.advance(days=1)

    assert keys(ask("green tea")) == keys(ask("green tea", weights=Weights(recency=0))) == ["third", "second", "first"]


def test_the_half_life_says_how_much_age_counts(store: MemoryStore, ask: Any, clock: Clock) -> None:
    put(store, "tea", "green tea")
    clock.advance(hours=48)

    weights = [ask("tea", half_life_hours=hours)[0].parts["recency"] for hours in (24, 48, math.inf)]

    assert weights == pytest.approx([0.25, 0.5, 1])


def test_a_memory_about_whom_the_question_names_comes_first(store: MemoryStore, ask: Any) -> None:
    put(store, "zoe", "likes the green one", subject="Zoë")
    put(store, "tomas", "likes the green one", subject="Tomás")
    put(store, "obrien", "likes the green one", subject="Ana O'Brien")

    assert keys(ask("Does Tomas like the green one?"))[0] == "tomas"
    assert keys(ask("Is ZOË's the green one?"))[0] == "zoe"
    assert ask("Is it green?")[0].parts["subject"] == 0
    both = ask("Do Zoe and Tomás like the green one?")
    assert {scored.parts["subject"] for scored in both} == {0}  # of two, it would be as right as wrong


def test_a_name_with_an_apostrophe_or_a_hyphen_is_a_name(store: MemoryStore, ask: Any) -> None:
    put(store, "obrien", "likes the green one", speaker="O'Brien")
    put(store, "anna", "likes the green one", speaker="Anna-Lena")

    assert ask("What did O’Brien like?", limit=1)[0].parts["subject"] == 1
    assert keys(ask("What did Anna-Lena like?", limit=1)) == ["anna"]


def test_the_name_of_who_is_asked_about_does_not_draw_in_all_they_said(store: MemoryStore, ask: Any) -> None:
    for number in range(5):
        put(store, f"k{number}", f"Zoë: number {number}", speaker="Zoë")
    put(store, "tea", "Zoë: green tea", speaker="Zoë")

    found = ask("Does Zoë drink tea?")

    assert keys(found)[0] == "tea"
    assert [scored.parts["lexical"] for scored in found[1:]] == [0] * 4


def test_what_happened_when_the_question_says_comes_first(store: MemoryStore, ask: Any, clock: Clock) -> None:
    for month in range(1, 13):
        put(store, f"m{month:02}", "went sailing", timestamp=f"2025-{month:02}-15T12:00:00+00:00", type="episodic")

    assert keys(ask("Where did I go sailing in June?"))[0] == "m06"
    assert keys(ask("sailing on 15 August 2025"))[0] == "m08"
    assert ask("sailing on 16 August 2025")[0].parts["time"] == 0


def test_a_newer_version_stands_above_the_older_one_that_sounds_more_like_the_question(
    store: MemoryStore, ask: Any, clock: Clock
) -> None:
    put(store, "exam_date", "the exam is on Friday 22 May")
    clock.advance(days=30)
    put(store, "k7", "the exam on Friday 22 May was moved to June, in another town", supersedes="exam_date")

    found = ask("Is the exam on Friday 22 May?")

    assert keys(found) == ["k7", "exam_date"]
    assert found[0].note == "newer than exam_date"
    assert keys(ask("Is the exam on Friday 22 May?", newest_versions=False)) == ["exam_date", "k7"]


def test_equals_come_in_one_order_however_often_asked(store: MemoryStore, ask: Any) -> None:
    store.put_many("ada", [("facts", f"k{n}", {"content": "green tea"}) for n in range(30)])

    first = keys(ask("green tea", limit=10))

    assert first == [f"k{n}" for n in range(29, 19, -1)]  # the last that was written comes first
    assert all(keys(ask("green tea", limit=10)) == first for _ in range(3))
    assert keys(ask("green tea", limit=3)) == first[:3]


# --- questions ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    [
        "What is it that I have?",  # nothing but stop words
        "Zoë",
        "tea OR rum AND NOT (coffee)",
        'NEAR("tea", 5) tokens:tea tea* ^tea "tea',
        "'; DROP TABLE memories; --",
        "tea & rum | !coffee <-> :* \\",
        "%_%s {n} :told0 $1 ?",
        "🎉🏴‍☠️",
        "試験はいつですか",
        "a" * MAX_QUERY_LENGTH,
        "tea " * (MAX_QUERY_LENGTH // 4),
        " ".join(f"w{n}" for n in range(1600)),
        "1e309 NaN 0x10 -1",
        "\u202egreen\u0301 tea\ufeff",
    ],
    ids=lambda query: ascii(query[:20]),
)
def test_whatever_is_asked_there_is_an_answer(store: MemoryStore, ask: Any, query: str) -> None:
    put(store, "tea", "green tea", subject="Zoë")
    put(store, "words", " ".join(f"w{n}" for n in range(1600)))
    store.put("bob", "facts", "rum", {"content": "black rum"})

    assert sorted(keys(ask(query))) == ["tea", "words"]
    assert store.get("ada", "facts", "tea")["content"] == "green tea"


@given(query=st.text(max_size=60))
@settings(
    max_examples=60,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_text_has_a_list_for_an_answer(store: MemoryStore, ask: Any, query: str) -> None:
    put(store, "tea", "green tea")
    put(store, "rum", "black rum", subject="Tomás")

    try:
        found = ask(query, limit=2)
    except InvalidInput as refused:
        assert "\x00" in query or "surrogate" in str(refused)
    else:
        assert isinstance(found, ScoredList)
        assert len(found) == (2 if query.strip() else 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"query": None}, "the query must be a text, not NoneType: None"),
        ({"query": ["tea"]}, "not list: ['tea']"),
        ({"query": "x" * (MAX_QUERY_LENGTH + 1)}, "10,001|10,003"),
        ({"query": "tea\x00"}, "the query holds a NUL character"),
        ({"query": "tea \ud83d"}, "lone surrogate"),
        ({"user_id": ""}, "user_id must not be empty: ''"),
        ({"user_id": 5}, "user_id must be a text, not int: 5"),
        ({"limit": -1}, "limit must be a whole number from 0 to 1,000, not -1"),
        ({"limit": 1001}, "not 1001"),
        ({"limit": 2.0}, "not 2.0"),
        ({"limit": True}, "not True"),
        ({"limit": None}, "not None"),
        ({"expand_neighbours": 2}, "knows no condition expand_neighbours"),
        ({"half_life_hours": 0}, "half_life_hours must be a number of more than 0, not 0"),
        ({"half_life_hours": "week"}, "not 'week'"),
        ({"min_relevance": "much"}, "min_relevance must be a number of at least 0, not 'much'"),
        ({"min_relevance": math.nan}, "min_relevance must be a number of at least 0, not nan"),
        ({"min_relevance": -0.1}, "min_relevance must be a number of at least 0, not -0.1"),
        ({"min_relevance": True}, "min_relevance must be a number of at least 0, not True"),
        ({"namespaces": []}, "namespaces must be a list with at least one namespace, not []"),
        ({"namespaces": "facts"}, "not 'facts'"),
        ({"namespaces": 5}, "not 5"),
        ({"namespaces": [""]}, "namespace must not be empty: ''"),
        ({"namespaces": [5]}, "namespace must be a text, not int: 5"),
        ({"weights": {"lexical": 1}}, "weights must be a Weights, such as Weights(lexical=1), not {'lexical': 1}"),
        ({"namespace": "facts"}, "knows no condition namespace; it knows filter, topics"),
        ({"contains": "tea"}, "knows no condition contains"),
        ({"topic": ["x"], "since": START}, "knows no condition topic;"),
        ({"filter": 5}, "filter must be a dict"),
        ({"since": "yesterday"}, "a time must be a datetime, not str: 'yesterday'"),
        ({"since": datetime(2026, 1, 1)}, "no time zone"),
        ({"min_confidence": "high"}, "'high'"),
        ({"topics": []}, "not []"),
    ],
    ids=repr,
)
def test_what_can_not_be_asked_is_refused_by_its_value(
    store: MemoryStore, embedder: WordEmbedder, options: dict[str, Any], message: str
) -> None:
    asked = {"user_id": "ada", "query": "tea", "embedder": embedder} | options

    with pytest.raises(InvalidInput) as refused:
        retrieve(store, **asked)

    assert any(part in str(refused.value) for part in message.split("|"))
    assert embedder.batches == []


@pytest.mark.parametrize("wrong", [-0.1, math.nan, math.inf, "0.5", None, True], ids=repr)
@pytest.mark.parametrize("part", PARTS)
def test_a_weight_that_is_none_is_refused_by_its_name_and_value(part: str, wrong: Any) -> None:
    with pytest.raises(InvalidInput, match=f"the weight {part} must be a number of at least 0, not ") as refused:
        Weights(**{part: wrong})

    assert repr(wrong) in str(refused.value)


def test_without_words_and_meaning_nothing_would_be_relevant() -> None:
    with pytest.raises(InvalidInput, match="lexical and semantic can't both be 0"):
        Weights(lexical=0, semantic=0, recency=1)


def test_without_tables_it_says_so(embedder: WordEmbedder) -> None:
    from lib.database.engine import connect

    engine = connect("sqlite://")

    with pytest.raises(TablesMissing, match="create_tables"):
        retrieve(MemoryStore(engine), "ada", "tea", embedder=embedder)
    engine.dispose()


# --- both databases -------------------------------------------------------------------------------


def test_both_databases_answer_the_labelled_questions_alike(
    sqlite_engine: Engine, postgres_engine: Engine, clock: Clock
) -> None:
    embedder = LocalEmbedder()
    memories = [json.loads(line) for line in (DATA / "memories.jsonl").read_text(encoding="utf-8").splitlines()]
    questions = [json.loads(line) for line in (DATA / "questions.jsonl").read_text(encoding="utf-8").splitlines()]
    mine = [memory for memory in memories if memory["person"] == "zoe" and not memory["superseded_by"]]
    asked = [question["question"] for question in questions if question["person"] == "zoe"][::3][:20]
    answers: list[list[Any]] = []

    for engine in (sqlite_engine, postgres_engine):
        clock.time = datetime(2026, 9, 1, tzinfo=UTC)
        store = MemoryStore(empty(engine), now=clock)
        for memory in mine:
            clock.time = datetime.fromisoformat(memory["valid_from"])
            value = {name: memory[name] for name in ("content", "type", "topics")}
            store.put("zoe", memory["namespace"], memory["key"], value)
        clock.time = datetime(2026, 9, 1, tzinfo=UTC)
        found = [retrieve(store, "zoe", question, embedder=embedder) for question in asked]
        answers.append([[(s.item, pytest.approx(s.score)) for s in each] for each in found])

    assert len(asked) == 20 and all(len(answer) == 5 for answer in answers[0])
    assert [[(item, score.expected) for item, score in each] for each in answers[0]] == answers[1]


# --- scores that are explained --------------------------------------------------------------------


def test_the_parts_of_an_explanation_sum_to_the_score(store: MemoryStore, ask: Any, clock: Clock) -> None:
    for number in range(8):
        put(store, f"k{number}", f"green tea {number}", importance=number / 10, subject="Zoë")
        clock.advance(days=9)

    found = ask("Zoe, green tea in March?", weights=Weights(0.5, 0.7, 0.3, 0.2, 0.1, 0.4), limit=8)

    rows = found.explain().rows
    assert [row["memory"] for row in rows] == [f"facts/{key}" for key in keys(found)]
    for row, scored in zip(rows, found, strict=True):
        parts = sum(row[part] for part in PARTS)
        assert row["score"] == scored.score >= parts - 1e-9
        assert row["score"] == pytest.approx(parts) or row["note"].startswith("newer than")
        assert scored.relevance == pytest.approx(row["lexical"] + row["semantic"])
        [alone] = scored.explain().rows
        assert alone == row


def scored(key: str = "k", content: str = "tea", **options: Any) -> ScoredMemory:
    item = MemoryItem("ada", "facts", key, {"content": content}, START, START)
    return ScoredMemory(item, 0.5, 0.5, {"lexical": 0.5}, {"lexical": 0.5}, **options)


def test_an_explanation_reads_as_text_and_as_a_table() -> None:
    explanation = ScoredList([scored(note="newer than old"), ScoredMemory(scored("beside").item, 0.5, 0.0)]).explain()

    assert repr(explanation) == "0.50  facts/k: lexical 0.50  (newer than old)\n0.50  facts/beside: nothing"
    html = explanation._repr_html_()
    assert html.count('role="img"') == 2 and 'aria-label="facts/k: lexical 0.50"' in html
    assert "newer than old" in html and "semantic" not in html


def test_no_memories_have_an_explanation_too() -> None:
    assert repr(ScoredList().explain()) == repr(ScoredList()) == "no memories"
    assert ScoredList().explain()._repr_html_() == ScoredList()._repr_html_() == "<em>no memories</em>"
    assert ScoredList().items == []


def test_html_in_a_memory_stays_text() -> None:
    evil = '"><script>alert(1)</script>'
    memory = scored(evil, evil, note=evil)

    for html in (memory.explain()._repr_html_(), memory._repr_html_(), ScoredList([memory])._repr_html_()):
        assert "<script" not in html and '">&lt;' not in html.replace("&quot;&gt;&lt;", "")
        assert "&lt;script&gt;" in html


def test_a_list_of_results_shows_memories_and_no_scores() -> None:
    found = ScoredList([scored()])

    assert isinstance(found.items, MemoryList) and found.items[0].key == "k"
    assert repr(found) == repr(found.items) and repr(found[0]) == repr(found.items)
    assert "0.5" not in repr(found) + found._repr_html_()
