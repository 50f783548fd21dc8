"""Candidates: the database finds them by words and by vectors and counts terms; kept vectors are never stale."""

import itertools
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from conftest import Clock
from sqlalchemy import Connection, Engine
from word_embedder import WordEmbedder

from lib.database.engine import connect, create_tables
from lib.database.transactions import read_transaction, write_transaction
from lib.retrieval import _candidates as candidates
from lib.retrieval._candidates import by_vector, by_words, counts_of, load, subjects_named
from lib.retrieval._vectors import Matrices, state_of
from lib.retrieval.ranking import idf
from lib.retrieval.search import reembed
from lib.store.memory_store import MemoryStore


@pytest.fixture
def embedder() -> WordEmbedder:
    return WordEmbedder()


def fill(store: MemoryStore, embedder: WordEmbedder, *contents: str, user_id: str = "ada") -> None:
    """Memories with these texts, indexed; their keys are their places."""
    store.put_many(user_id, [("facts", str(place), {"content": text}) for place, text in enumerate(contents)])
    reembed(store, user_id, embedder, progress=False)


@contextmanager
def state(engine: Engine, user_id: str = "ada", model: str = "words") -> Iterator[tuple]:
    with read_transaction(engine) as connection:
        yield connection, state_of(connection, user_id, model)


def contents(connection: Connection, ids: list[int], clock: Clock, user_id: str = "ada") -> list[str]:
    """The texts of the memories with these row numbers, in their order."""
    found = {each.index_id: each.item.value["content"] for each in load(connection, ids, user_id, clock())}
    return [found[number] for number in ids if number in found]


def of_words(engine: Engine, clock: Clock, terms: list[str], **options: Any) -> list[str]:
    with state(engine) as (connection, now):
        counts = counts_of(connection, "ada", terms)
        idfs = {term: idf(now.count, count) for term, count in counts.items()}
        return contents(connection, by_words(connection, "ada", counts, idfs, **options), clock)


def of_vector(engine: Engine, clock: Clock, embedder: WordEmbedder, query: str, **options: Any) -> list[str]:
    with state(engine, model=embedder.name) as (connection, now):
        [vector] = embedder.embed([query])
        ids = by_vector(engine, connection, "ada", embedder.name, vector, now, **options)
        return contents(connection, ids, clock)


# --- counting -------------------------------------------------------------------------------------


def test_the_state_counts_and_notices_every_change(store: MemoryStore, engine: Engine, embedder: WordEmbedder) -> None:
    states = []
    for change in (
        lambda: fill(store, embedder, "tea", "black coffee"),
        lambda: store.put("ada", "facts", "2", {"content": "milk"}),
        lambda: reembed(store, "ada", embedder, progress=False),
        lambda: store.put("ada", "facts", "2", {"content": "water"}),
        lambda: reembed(store, "ada", embedder, progress=False),
        lambda: store.delete("ada", "facts", "0"),
    ):
        change()
        with state(engine) as (_, now):
            states.append(now)

    assert [(now.memories, now.count) for now in states] == [(2, 2), (3, 2), (3, 3), (3, 2), (3, 3), (2, 2)]
    assert states[0].average_length == 1.5
    different = [(now.count, now.newest, now.checksum) for now in states]
    assert len(set(different)) == 4  # of six: a put that isn't indexed yet changes nothing, or makes it as it was


def test_a_user_without_memories_has_an_empty_state(store: MemoryStore, engine: Engine) -> None:
    with state(engine, "nobody") as (connection, now):
        assert (now.memories, now.count, now.average_length, now.newest, now.checksum) == (0, 0, 0, 0, 0)
        assert counts_of(connection, "nobody", ["tea"]) == {"tea": 0}
        assert counts_of(connection, "nobody", []) == {}


def test_terms_of_few_memories_are_counted_exactly(store: MemoryStore, engine: Engine, embedder: WordEmbedder) -> None:
    fill(store, embedder, "tea tea tea", "green tea", "coffee")
    fill(store, embedder, *["tea with milk"] * 9, user_id="bob")

    with state(engine) as (connection, _):
        assert counts_of(connection, "ada", ["tea", "coffe", "milk"]) == {"tea": 2, "coffe": 1, "milk": 0}


def test_terms_of_many_memories_are_counted_about_right(
    store: MemoryStore, engine: Engine, embedder: WordEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "FEW_SAMPLED", 10)
    fill(store, embedder, *(f"tea {'with milk ' * (n % 2)}number{n}" for n in range(1600)))

    with state(engine) as (connection, _):
        counts = counts_of(connection, "ada", ["tea", "milk", "number7"])

    assert 800 <= counts["tea"] <= 2400
    assert 400 <= counts["milk"] <= 1200
    assert counts["number7"] == 1


# --- by words -------------------------------------------------------------------------------------


def test_the_memories_that_match_the_most_come_first_and_of_equals_the_newer(
    store: MemoryStore, engine: Engine, embedder: WordEmbedder, clock: Clock
) -> None:
    fill(store, embedder, "tea", "coffee", "tea and rum", "sails", "tea")

    assert of_words(engine, clock, ["tea", "rum"]) == ["tea and rum", "tea", "tea"]
    assert of_words(engine, clock, ["coffe", "unknown"]) == ["coffee"]
    assert of_words(engine, clock, ["unknown"]) == of_words(engine, clock, []) == []


def test_common_words_are_left_out_where_rare_ones_have_found_enough(
    store: MemoryStore, engine: Engine, embedder: WordEmbedder, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "MAX_ROWS_READ", 10)
    fill(store, embedder, *(f"tea number{n}" for n in range(9)), "rum", "rum and tea")

    assert of_words(engine, clock, ["tea", "rum"]) == ["rum and tea", "rum"]
    assert len(of_words(engine, clock, ["tea"])) == 10  # alone, even a common word is looked at


def test_as_many_of_each_kind_come_as_are_looked_for_and_more_if_more_are_asked_for(
    store: MemoryStore, engine: Engine, embedder: WordEmbedder, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "BY_WORDS", 3)
    monkeypatch.setattr(candidates, "BY_VECTOR", 4)
    fill(store, embedder, *(f"tea number{n}" for n in range(9)))

    assert of_words(engine, clock, ["tea"], limit=1) == ["tea number8", "tea number7", "tea number6"]
    assert len(of_vector(engine, clock, embedder, "tea", limit=1)) == 4
    assert (
        len(of_words(engine, clock, ["tea"], limit=8)) == len(of_vector(engine, clock, embedder, "tea", limit=8)) == 8
    )


def test_a_question_of_a_thousand_words_is_no_error(
    store: MemoryStore, engine: Engine, embedder: WordEmbedder, clock: Clock
) -> None:
    terms = [f"w{number}x" for number in range(1000)]
    fill(store, embedder, *(" ".join(terms[start : start + 20]) for start in range(0, 1000, 20)))

    assert len(of_words(engine, clock, terms)) > 0


def test_among_leaves_out_the_rest_of_both_kinds(
    store: MemoryStore, engine: Engine, embedder: WordEmbedder, clock: Clock
) -> None:
    fill(store, embedder, *(f"tea number{n}" for n in range(400)))
    with state(engine) as (connection, now):
        allowed = candidates.allowed(connection, "ada", "words", [candidates.MEMORIES.c.key.in_(["3", "5"])])

    assert len(allowed) == 2 < now.count
    assert of_words(engine, clock, ["tea"], among=allowed) == ["tea number5", "tea number3"]
    assert sorted(of_vector(engine, clock, embedder, "tea", among=allowed)) == ["tea number3", "tea number5"]
    assert of_words(engine, clock, ["tea"], among=[]) == of_vector(engine, clock, embedder, "tea", among=[]) == []


# --- loading --------------------------------------------------------------------------------------


def test_row_numbers_of_another_user_load_nothing(
    store: MemoryStore, engine: Engine, embedder: WordEmbedder, clock: Clock
) -> None:
    fill(store, embedder, "tea")
    with state(engine) as (connection, now):
        assert contents(connection, [now.newest, now.newest + 1], clock) == ["tea"]
        assert load(connection, [now.newest], "bob", clock()) == []
        assert load(connection, [], "ada", clock()) == []


def test_a_candidate_holds_what_scoring_needs(
    store: MemoryStore, engine: Engine, embedder: WordEmbedder, clock: Clock
) -> None:
    value = {"content": "Zoë: green tea", "speaker": "Zoë", "session": "s1", "timestamp": "2026-01-02T10:00:00+02:00"}
    item = store.put("ada", "episodes", "k", value)
    reembed(store, "ada", embedder, progress=False)

    with state(engine) as (connection, now):
        [candidate] = load(connection, [now.newest], "ada", clock())

    assert candidate.item == item
    assert candidate.terms == {"zoe": 1, "green": 1, "tea": 1} and candidate.length == 3
    assert candidate.subject == "zoe"
    assert candidate.happened_at.isoformat() == "2026-01-02T08:00:00+00:00"
    alone, beside = embedder.embed(["green tea", "Zoë: green tea"])
    assert np.allclose(candidate.vector, (alone + beside) / 2, atol=1e-3)


def test_the_subjects_that_are_named_are_those_of_this_user(
    store: MemoryStore, engine: Engine, embedder: WordEmbedder
) -> None:
    store.put("ada", "facts", "1", {"content": "tea", "subject": "Zoë"})
    store.put("ada", "facts", "2", {"content": "rum", "subject": "Ana O'Brien"})
    store.put("bob", "facts", "3", {"content": "rum", "subject": "Tomás"})
    for user_id in ("ada", "bob"):
        reembed(store, user_id, embedder, progress=False)

    with state(engine) as (connection, _):
        assert subjects_named(connection, "ada", ["zoe", "tomas", "ana"]) == ["zoe"]
        assert subjects_named(connection, "ada", []) == []


# --- the vectors that are kept in memory ----------------------------------------------------------


def test_the_nearest_come_first_whatever_was_put_changed_or_deleted_since(
    store: MemoryStore, engine: Engine, embedder: WordEmbedder, clock: Clock
) -> None:
    fill(store, embedder, "green tea", "black coffee", "white milk")
    first = of_vector(engine, clock, embedder, "coffee")

    fill(store, embedder, "green tea", "black rum", "white milk", "coffee")
    second = of_vector(engine, clock, embedder, "coffee")
    store.delete("ada", "facts", "3")
    store.delete("ada", "facts", "0")
    third = of_vector(engine, clock, embedder, "tea")

    assert first[0] == "black coffee"
    assert second[0] == "coffee" and "black coffee" not in second and len(second) == 4
    assert sorted(third) == ["black rum", "white milk"]


@pytest.mark.parametrize("seed", range(3))
def test_after_any_changes_the_kept_vectors_are_those_of_the_database(
    store: MemoryStore, engine: Engine, embedder: WordEmbedder, seed: int
) -> None:
    choose, kept = random.Random(seed), Matrices()
    for _ in range(15):
        for _ in range(choose.randrange(4)):
            key = str(choose.randrange(12))
            if choose.random() < 0.6:
                store.put("ada", "facts", key, {"content": f"word{choose.randrange(5)}"})
            else:
                store.delete("ada", "facts", key)
        if choose.random() < 0.7:
            reembed(store, "ada", embedder, progress=False)

        with state(engine) as (connection, now):
            ids, vectors = kept.get(engine, connection, "ada", "words", now)
            fresh_ids, fresh_vectors = Matrices().get(engine, connection, "ada", "words", now)

        assert ids.tolist() == fresh_ids.tolist()
        assert np.array_equal(vectors, fresh_vectors)
        assert len(ids) == now.count


def test_vectors_that_are_kept_are_not_read_again_whatever_has_changed_beside_them(
    store: MemoryStore, engine: Engine, embedder: WordEmbedder
) -> None:
    fill(store, embedder, "tea", "coffee", "milk")
    kept, read = Matrices(), []

    def get() -> list[int]:
        """The row numbers; how many vectors were read for them is noted."""
        vectors = Matrices.get.__globals__["_vectors"]

        def reading(*arguments: Any) -> np.ndarray:
            rows = vectors(*arguments)
            read.append(len(rows))
            return rows

        with state(engine) as (connection, now), pytest.MonkeyPatch.context() as patch:
            patch.setattr("lib.retrieval._vectors._vectors", reading)
            return kept.get(engine, connection, "ada", "words", now)[0].tolist()

    first = get()
    again = get()
    store.put("ada", "facts", "3", {"content": "rum"})
    reembed(store, "ada", embedder, progress=False)
    grown = get()
    store.put("ada", "facts", "0", {"content": "water"})
    reembed(store, "ada", embedder, progress=False)
    store.delete("ada", "facts", "1")
    changed = get()

    assert read == [3, 1, 1]
    assert again == first == grown[:3] and len(grown) == 4
    assert len(changed) == 3 and changed[:2] == grown[2:]


def test_users_models_and_databases_have_matrices_of_their_own(
    store: MemoryStore, engine: Engine, embedder: WordEmbedder, clock: Clock
) -> None:
    other = connect("sqlite://")
    create_tables(other)
    fill(store, embedder, "tea")
    fill(store, embedder, "rum", "milk", user_id="bob")
    fill(MemoryStore(other, now=clock), embedder, "coffee")

    for _ in range(2):
        assert of_vector(engine, clock, embedder, "tea") == ["tea"]
        assert of_vector(other, clock, embedder, "tea") == ["coffee"]
    other.dispose()


def test_a_database_opened_where_another_one_was_has_its_own_vectors(embedder: WordEmbedder, clock: Clock) -> None:
    for number in range(5):
        engine = connect("sqlite://")
        create_tables(engine)
        fill(MemoryStore(engine, now=clock), embedder, f"drink{number}")

        assert of_vector(engine, clock, embedder, "drink") == [f"drink{number}"]
        engine.dispose()
        del engine


def test_only_the_matrices_used_last_are_kept(store: MemoryStore, engine: Engine, embedder: WordEmbedder) -> None:
    kept = Matrices(kept_bytes=2 * 64 * 4)
    for user_id in ("ada", "bob", "cleo"):
        fill(store, embedder, "tea", user_id=user_id)
    for user_id in ("ada", "bob", "ada", "cleo"):
        with state(engine, user_id) as (connection, now):
            kept.get(engine, connection, user_id, "words", now)

    assert [user_id for _, user_id, _ in kept._kept] == ["ada", "cleo"]


def test_what_a_transaction_undoes_was_never_kept(
    store: MemoryStore, engine: Engine, embedder: WordEmbedder, clock: Clock
) -> None:
    fill(store, embedder, "milk")

    with pytest.raises(KeyboardInterrupt), write_transaction(engine) as connection:
        fill(store.in_transaction(connection), embedder, "milk", "tea")
        assert of_vector(connection, clock, embedder, "tea")[0] == "tea"
        raise KeyboardInterrupt
    fill(store, embedder, "milk", "coffee")  # on SQLite, with the row number that the tea had

    with state(engine) as (connection, now):
        kept = candidates._matrices.get(engine, connection, "ada", "words", now)[1]
        fresh = Matrices().get(engine, connection, "ada", "words", now)[1]
    assert np.array_equal(kept, fresh)


def test_threads_that_put_and_search_at_once_find_what_they_put(
    store: MemoryStore, engine: Engine, embedder: WordEmbedder, clock: Clock
) -> None:
    fill(store, embedder, "tea")
    numbers = itertools.count(1)

    def put_and_search(_: int) -> bool:
        number = next(numbers)
        store.put("ada", "facts", str(number), {"content": f"drink{number}"})
        reembed(store, "ada", embedder, progress=False)
        return of_vector(engine, clock, embedder, f"drink{number}")[0] == f"drink{number}"

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(put_and_search, range(16)))
