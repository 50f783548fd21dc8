"""The index: brought up to date by the next search, whatever was put, changed, archived or forgotten meanwhile."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any

import numpy as np
import pytest
from conftest import START, Clock
from sqlalchemy import Engine, func, select, text
from word_embedder import WordEmbedder

from lib.database._side_tables import IndexedMemory
from lib.database.tables import Memory
from lib.database.transactions import write_transaction
from lib.errors import InvalidInput
from lib.retrieval import _index as indexing
from lib.retrieval._index import bring_up_to_date, content_of, place_of
from lib.retrieval.search import reembed, retrieve
from lib.store.memory_store import MemoryStore


@pytest.fixture
def embedder() -> WordEmbedder:
    return WordEmbedder()


def rows(engine: Engine, *columns: str) -> list[Any]:
    """What stands in the index, in the order of the keys; (key, …)."""
    asked = [IndexedMemory.__table__.c[name] for name in columns]
    query = select(Memory.key, *asked).join(IndexedMemory, IndexedMemory.memory_id == Memory.id).order_by(Memory.key)
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(query)]


def terms(engine: Engine, key: str) -> dict[str, float]:
    return {row[0]: json.loads(row[1]) for row in rows(engine, "terms")}[key]


def left_over(engine: Engine) -> tuple[int, int]:
    """Rows of the index, and of the full-text table that SQLite has beside it."""
    with engine.connect() as connection:
        indexed = connection.scalar(select(func.count()).select_from(IndexedMemory))
        if engine.dialect.name == "postgresql":
            return indexed, indexed
        return indexed, connection.scalar(text("SELECT count(*) FROM memory_terms"))


def by_words(store: MemoryStore, query: str, embedder: WordEmbedder, user_id: str = "ada") -> list[str]:
    """The keys of the memories that have one of the words."""
    found = retrieve(store, user_id, query, limit=100, embedder=embedder)
    return sorted(scored.item.key for scored in found if scored.parts["lexical"])


def put_turns(store: MemoryStore, *contents: str, session: str = "s1", user_id: str = "ada") -> None:
    for number, content in enumerate(contents):
        put_turn(store, number, content, session=session, user_id=user_id)


def put_turn(store: MemoryStore, number: float, content: str, *, session: str = "s1", user_id: str = "ada") -> None:
    """The turn stands in its conversation by its time: number 1.5 comes between 1 and 2."""
    moment = datetime.fromtimestamp(START.timestamp() + 60 * number, UTC)
    value = {"content": content, "session": session, "timestamp": moment.isoformat()}
    store.put(user_id, "episodes", f"{session}-{number}", value)


# --- what a search finds --------------------------------------------------------------------------


def test_a_memory_is_found_by_the_search_after_its_put(store: MemoryStore, embedder: WordEmbedder) -> None:
    store.put("ada", "facts", "tea", {"content": "Drinks green tea"})
    before = by_words(store, "tea or coffee", embedder)

    store.put("ada", "facts", "coffee", {"content": "Never drinks coffee"})

    assert before == ["tea"]
    assert by_words(store, "tea or coffee", embedder) == ["coffee", "tea"]


def test_a_changed_memory_is_found_by_its_new_words_and_not_by_its_old_ones(
    store: MemoryStore, engine: Engine, embedder: WordEmbedder
) -> None:
    store.put("ada", "facts", "drink", {"content": "green tea"})
    assert by_words(store, "tea", embedder) == ["drink"]

    store.put("ada", "facts", "drink", {"content": "black coffee"})

    assert left_over(engine) == (0, 0)
    assert by_words(store, "coffee", embedder) == ["drink"]
    assert by_words(store, "tea", embedder) == []


def test_an_equal_value_put_again_is_not_indexed_again(
    store: MemoryStore, engine: Engine, embedder: WordEmbedder, clock: Clock
) -> None:
    store.put("ada", "facts", "drink", {"content": "green tea", "n": 1})
    reembed(store, "ada", embedder, progress=False)
    before = rows(engine, "id")
    clock.advance(days=1)

    store.put("ada", "facts", "drink", {"n": 1, "content": "green tea"})

    assert reembed(store, "ada", embedder, progress=False) == 0
    assert rows(engine, "id") == before


def test_a_value_that_differs_only_in_case_is_indexed_anew(
    store: MemoryStore, engine: Engine, embedder: WordEmbedder
) -> None:
    store.put("ada", "facts", "drink", {"content": "Green Tea"})
    reembed(store, "ada", embedder, progress=False)

    store.put("ada", "facts", "drink", {"content": "green tea"})

    assert reembed(store, "ada", embedder, progress=False) == 1


@pytest.mark.parametrize("way", ["delete", "clear", "archive", "expire", "forget"])
def test_what_is_gone_leaves_nothing_in_the_index(
    store: MemoryStore, engine: Engine, embedder: WordEmbedder, clock: Clock, way: str
) -> None:
    store.put("ada", "facts", "tea", {"content": "green tea"}, expires_at=START + timedelta(days=1))
    assert by_words(store, "tea", embedder) == ["tea"]
    assert left_over(engine) == (1, 1)
    clock.advance(days=1 if way == "expire" else 0)

    {
        "delete": lambda: store.delete("ada", "facts", "tea"),
        "clear": lambda: store.clear("ada", "facts"),
        "archive": lambda: store.archive("ada", [("facts", "tea")]),
        "expire": lambda: store.expire("ada"),
        "forget": lambda: store.forget_user("ada"),
    }[way]()

    assert left_over(engine) == (0, 0)
    assert by_words(store, "tea", embedder) == []


def test_a_lapsed_memory_is_not_found_before_it_is_swept_out_either(
    store: MemoryStore, embedder: WordEmbedder, clock: Clock
) -> None:
    store.put("ada", "facts", "code", {"content": "door code"}, expires_at=clock.advance(days=1))
    clock.advance(days=-1)
    before = by_words(store, "door", embedder)

    clock.advance(days=1)

    assert before == ["code"]
    assert by_words(store, "door", embedder) == []


def test_a_restored_memory_is_found_again(store: MemoryStore, engine: Engine, embedder: WordEmbedder) -> None:
    store.put("ada", "facts", "tea", {"content": "green tea"})
    by_words(store, "tea", embedder)
    store.archive("ada", [("facts", "tea")])
    gone = by_words(store, "tea", embedder)

    store.restore("ada", "facts", "tea")

    assert gone == []
    assert by_words(store, "tea", embedder) == ["tea"]
    assert left_over(engine) == (1, 1)


# --- other users ----------------------------------------------------------------------------------


def test_other_users_are_neither_found_nor_counted(store: MemoryStore, embedder: WordEmbedder) -> None:
    for number in range(5):
        store.put("ada", "facts", f"k{number}", {"content": f"tea number {number}"})
    alone = retrieve(store, "ada", "green tea number 3", embedder=embedder)

    for number in range(40):
        store.put("bob", "facts", f"b{number}", {"content": "green tea, tea and more tea, all of it green"})
    reembed(store, "bob", embedder, progress=False)
    beside = retrieve(store, "ada", "green tea number 3", embedder=embedder)

    assert [(s.item, s.score) for s in beside] == [(s.item, s.score) for s in alone]
    assert {s.item.user_id for s in beside} == {"ada"}
    assert by_words(store, "tea", embedder, "cleo") == []


def test_two_users_whose_names_and_words_run_together_stay_apart(store: MemoryStore, embedder: WordEmbedder) -> None:
    store.put("a", "facts", "k", {"content": "bc"})
    store.put("ab", "facts", "k", {"content": "c"})
    reembed(store, "a", embedder, progress=False)
    reembed(store, "ab", embedder, progress=False)

    assert by_words(store, "bc", embedder, "ab") == []
    assert by_words(store, "c", embedder, "a") == []


def test_forgetting_one_user_leaves_the_others_index(
    store: MemoryStore, engine: Engine, embedder: WordEmbedder
) -> None:
    for user_id in ("ada", "bob"):
        store.put(user_id, "facts", "tea", {"content": "green tea"})
        reembed(store, user_id, embedder, progress=False)

    store.forget_user("bob")

    assert left_over(engine) == (1, 1)
    assert by_words(store, "tea", embedder) == ["tea"]


# --- conversations --------------------------------------------------------------------------------


def test_a_turn_is_found_by_its_neighbours_words_too_but_less(store: MemoryStore, embedder: WordEmbedder) -> None:
    put_turns(store, "Which drink do you like", "The green one", "Good", "Weather is fine")

    found = retrieve(store, "ada", "drink", embedder=embedder)
    lexical = {scored.item.key: scored.parts["lexical"] for scored in found}

    assert lexical["s1-0"] > lexical["s1-1"] > lexical["s1-2"] > lexical["s1-3"] == 0


def test_a_turn_that_comes_between_changes_its_neighbours_and_no_others(
    store: MemoryStore, engine: Engine, embedder: WordEmbedder
) -> None:
    put_turns(store, *["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"])
    reembed(store, "ada", embedder, progress=False)
    before = dict(rows(engine, "id"))

    put_turn(store, 3.5, "sailing")
    written = reembed(store, "ada", embedder, progress=False)

    after = dict(rows(engine, "id"))
    assert {key for key in before if after[key] != before[key]} == {"s1-3", "s1-4", "s1-5"}
    assert written == 4
    assert terms(engine, "s1-4") == {"epsilon": 1.0, stem_of("sailing"): 0.67, "zeta": 0.33, "delta": 0.33}
    assert by_words(store, "sailing", embedder) == ["s1-3", "s1-3.5", "s1-4", "s1-5"]


def stem_of(word: str) -> str:
    return indexing.stems(word)[0]


def test_a_changed_turn_changes_its_neighbours(store: MemoryStore, engine: Engine, embedder: WordEmbedder) -> None:
    put_turns(store, "alpha", "beta", "gamma")
    reembed(store, "ada", embedder, progress=False)

    put_turn(store, 1, "tea")

    assert by_words(store, "beta", embedder) == []
    assert by_words(store, "tea", embedder) == ["s1-0", "s1-1", "s1-2"]


@pytest.mark.parametrize("how", ["delete", "archive", "clear"])
def test_the_words_of_a_deleted_turn_are_gone_from_its_neighbours(
    store: MemoryStore, engine: Engine, embedder: WordEmbedder, how: str
) -> None:
    put_turns(store, "Where do you live", "In Lisbon", "Nice", session="s1")
    put_turns(store, "Hello", "Good morning", session="s2")
    store.put("ada", "secrets", "code", {"content": "Lisbon", "session": "s3"})
    by_words(store, "Lisbon", embedder)

    if how == "clear":
        store.clear("ada", "episodes")
    elif how == "delete":
        store.delete("ada", "episodes", "s1-1")
    else:
        store.archive("ada", [("episodes", "s1-1")])

    with engine.connect() as connection:
        known = connection.scalars(select(IndexedMemory.terms).where(IndexedMemory.session == "s1")).all()
    assert not any("lisbon" in found for found in known)
    assert by_words(store, "Lisbon", embedder) == ["code"]


def test_neighbours_may_be_deleted_at_one_moment(store: MemoryStore, engine: Engine, embedder: WordEmbedder) -> None:
    for _ in range(10):
        put_turns(store, *(f"turn {number}" for number in range(8)))
        by_words(store, "turn", embedder)
        barrier = Barrier(8, timeout=20)

        def delete(number: int, barrier: Barrier = barrier) -> bool:
            barrier.wait()
            return store.delete("ada", "episodes", f"s1-{number}")

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(delete, range(8)))
        assert left_over(engine) == (0, 0)


def test_turns_put_one_by_one_are_indexed_as_if_put_at_once(
    store: MemoryStore, engine: Engine, embedder: WordEmbedder
) -> None:
    contents = ["alpha", "beta", "gamma", "delta", "epsilon"]
    for number in (3, 0, 4, 1, 2):
        put_turn(store, number, contents[number])
        reembed(store, "ada", embedder, progress=False)
    one_by_one = rows(engine, "terms", "vector", "length", "context_hash")
    store.clear("ada", "episodes")

    put_turns(store, *contents)
    reembed(store, "ada", embedder, progress=False)

    assert rows(engine, "terms", "vector", "length", "context_hash") == one_by_one


def test_conversations_and_users_of_one_name_are_not_mixed(
    store: MemoryStore, engine: Engine, embedder: WordEmbedder
) -> None:
    put_turns(store, "alpha", "beta", session="s1")
    put_turns(store, "gamma", "delta", session="s2")
    put_turns(store, "epsilon", "zeta", session="s1", user_id="bob")
    store.put("ada", "facts", "loose", {"content": "eta"})
    for user_id in ("ada", "bob"):
        reembed(store, user_id, embedder, progress=False)

    assert by_words(store, "alpha", embedder) == ["s1-0", "s1-1"]
    assert by_words(store, "epsilon zeta", embedder) == []
    assert by_words(store, "eta", embedder) == ["loose"]


# --- models ---------------------------------------------------------------------------------------


def test_vectors_of_another_model_are_replaced_and_never_compared(
    store: MemoryStore, engine: Engine, embedder: WordEmbedder
) -> None:
    for number in range(3):
        store.put("ada", "facts", f"k{number}", {"content": f"tea number {number}"})
    reembed(store, "ada", embedder, progress=False)
    larger = WordEmbedder("larger", dimensions=96)

    found = retrieve(store, "ada", "tea number 2", embedder=larger)

    assert found[0].item.key == "k2"
    assert {(row[1], len(row[2])) for row in rows(engine, "model", "vector")} == {("larger", 96 * 2)}
    assert left_over(engine) == (3, 3)
    assert reembed(store, "ada", larger, progress=False) == 0


# --- two at once, interrupted, changed meanwhile --------------------------------------------------


def test_two_threads_that_index_at_once_leave_each_memory_once(
    store: MemoryStore, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexing, "CHUNK", 4)
    put_turns(store, *(f"turn about {number}" for number in range(20)))
    together = Barrier(2)

    def index(_: int) -> int:
        together.wait(10)
        return bring_up_to_date(engine, "ada", WordEmbedder(), progress=False)

    with ThreadPoolExecutor(2) as pool:
        written = list(pool.map(index, range(2)))

    assert left_over(engine) == (20, 20)
    assert sum(written) >= 20
    assert terms(engine, "s1-3") == {"turn": 2.33, "3": 1.0, "2": 0.67, "4": 0.33, "1": 0.33}


def test_interrupted_it_goes_on_where_it_was(
    store: MemoryStore, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexing, "CHUNK", 4)
    for number in range(10):
        store.put("ada", "facts", f"k{number}", {"content": f"tea number {number}"})
    failing = Failing(after=2)

    with pytest.raises(KeyboardInterrupt):
        bring_up_to_date(engine, "ada", failing, progress=False)

    assert left_over(engine) == (8, 8)
    embedder = WordEmbedder(failing.name)
    assert bring_up_to_date(engine, "ada", embedder, progress=False) == 2
    assert sorted(set(embedder.embedded)) == ["tea number 8", "tea number 9"]
    assert left_over(engine) == (10, 10)


class Failing(WordEmbedder):
    """It is interrupted when it is asked once too often."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        self.after -= 1
        if self.after < 0:
            raise KeyboardInterrupt
        return super().embed(texts)


class Meddling(WordEmbedder):
    """Somebody does something the first time that it embeds: between the index's reading and its writing."""

    def __init__(self, action: Any) -> None:
        super().__init__()
        self.action = action

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        action, self.action = self.action, None
        if action:
            action()
        return super().embed(texts)


@pytest.mark.parametrize(
    "new", [{"content": "black coffee"}, {"content": "GREEN tea"}, {"note": "green tea"}], ids=repr
)
def test_what_is_changed_meanwhile_is_not_indexed_with_its_old_text(
    store: MemoryStore, engine: Engine, new: dict[str, Any]
) -> None:
    store.put("ada", "facts", "drink", {"content": "green tea"})
    store.put("ada", "facts", "other", {"content": "sails"})
    meddling = Meddling(lambda: store.put("ada", "facts", "drink", new))

    written = bring_up_to_date(engine, "ada", meddling, progress=False)

    assert written == 1
    assert left_over(engine) == (1, 1)
    assert by_words(store, content_of(new), meddling) == ["drink"]


def test_what_is_deleted_meanwhile_is_not_indexed(store: MemoryStore, engine: Engine) -> None:
    store.put("ada", "facts", "drink", {"content": "green tea"})
    store.put("ada", "facts", "other", {"content": "sails"})

    written = bring_up_to_date(engine, "ada", Meddling(lambda: store.delete("ada", "facts", "drink")), progress=False)

    assert written == 1
    assert [row[0] for row in rows(engine)] == ["other"]


def test_a_user_who_is_forgotten_meanwhile_has_no_index(store: MemoryStore, engine: Engine) -> None:
    store.put("ada", "facts", "drink", {"content": "green tea"})

    written = bring_up_to_date(engine, "ada", Meddling(lambda: store.forget_user("ada")), progress=False)

    assert (written, left_over(engine)) == (0, (0, 0))


# --- within a transaction -------------------------------------------------------------------------


def test_within_a_transaction_a_search_sees_what_that_has_written(
    store: MemoryStore, engine: Engine, embedder: WordEmbedder
) -> None:
    with write_transaction(engine) as connection:
        inside = store.in_transaction(connection)
        inside.put("ada", "facts", "tea", {"content": "green tea"})
        found = by_words(inside, "tea", embedder)

    assert found == by_words(store, "tea", embedder) == ["tea"]
    assert left_over(engine) == (1, 1)


def test_what_is_undone_is_not_in_the_index_either(store: MemoryStore, engine: Engine, embedder: WordEmbedder) -> None:
    store.put("ada", "facts", "tea", {"content": "green tea"})

    with pytest.raises(KeyboardInterrupt), write_transaction(engine) as connection:
        store.in_transaction(connection).put("ada", "facts", "coffee", {"content": "black coffee"})
        assert by_words(store.in_transaction(connection), "coffee", embedder) == ["coffee"]
        raise KeyboardInterrupt

    assert left_over(engine) == (0, 0)
    assert by_words(store, "coffee tea", embedder) == ["tea"]


def test_a_search_leaves_the_settings_of_its_transaction_as_they_were(
    store: MemoryStore, engine: Engine, embedder: WordEmbedder
) -> None:
    store.put("ada", "facts", "tea", {"content": "green tea"})
    if engine.dialect.name != "postgresql":
        return

    with write_transaction(engine) as connection:
        by_words(store.in_transaction(connection), "tea", embedder)
        seqscan, sort = (connection.scalar(text(f"SHOW enable_{name}")) for name in ("seqscan", "sort"))

    assert (seqscan, sort) == ("on", "on")


# --- what of a value is indexed -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"content": "Sails", "city": "Lund"}, "Sails"),
        ({"content": ""}, ""),
        ({"content": 5, "city": "Lund"}, "5 Lund"),
        ({"a": {"b": ["x", {"c": 1.5}]}, "d": None, "e": True}, "x 1.5"),
        ({}, ""),
    ],
)
def test_the_text_of_a_value_is_its_content_or_all_of_its_texts(value: dict[str, Any], expected: str) -> None:
    assert content_of(value) == expected


@pytest.mark.parametrize(
    "timestamp",
    [
        "soon",
        "",
        None,
        5,
        "2026-03-01",
        "2026-03-01T12:00:00",
        [],
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
    ],
)
def test_a_time_that_can_not_be_used_gives_way_to_when_it_was_stored(timestamp: Any) -> None:
    assert place_of({"timestamp": timestamp}, START) == (None, None, START)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"session": "s1"}, ("s1", None)),
        ({"session": 7, "speaker": "Zoë"}, ("7", "zoe")),
        ({"type": "episodic", "source": "s1", "subject": "Tomás", "speaker": "Zoë"}, ("s1", "tomas")),
        ({"type": "semantic", "source": "s1", "subject": "O'Brien"}, (None, "o brien")),
        ({"session": ["s1"], "subject": 5}, (None, None)),
        ({"session": {}, "subject": "  "}, (None, None)),
    ],
)
def test_session_and_subject_are_read_from_the_value(value: dict[str, Any], expected: tuple) -> None:
    assert place_of(value, START)[:2] == expected


@pytest.mark.parametrize(
    "value",
    [{}, {"content": ""}, {"content": "🎉"}, {"content": "the"}, {"n": 10**300}, {"content": "a\n'\"\\%$:b"}],
    ids=repr,
)
def test_every_value_can_be_indexed(store: MemoryStore, engine: Engine, embedder: WordEmbedder, value: dict) -> None:
    store.put("ada", "facts", "k", value)

    assert [s.item.value for s in retrieve(store, "ada", "anything", embedder=embedder)] == [value]
    assert left_over(engine) == (1, 1)


def test_a_memory_as_long_as_a_book_can_be_indexed(store: MemoryStore, embedder: WordEmbedder) -> None:
    book = " ".join(f"w{number}x" for number in range(90_000))  # more different words than a tsvector holds
    store.put("ada", "facts", "book", {"content": book})

    assert by_words(store, "w17x", embedder) == ["book"]


def test_reembed_refuses_an_unusable_user(store: MemoryStore, embedder: WordEmbedder) -> None:
    with pytest.raises(InvalidInput, match="user_id must not be empty: ''"):
        reembed(store, "", embedder)

    assert reembed(store, "nobody", embedder) == 0
