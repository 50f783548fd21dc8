"""The approximate index on PostgreSQL: it finds what an exact search finds, which is taken where there is none."""

from collections.abc import Iterator

import pytest
from conftest import Clock, empty, fresh_schema
from sqlalchemy import Engine, text
from word_embedder import WordEmbedder

from lib.database.engine import connect, create_tables
from lib.database.transactions import autocommit_connection, read_transaction, write_transaction
from lib.errors import TablesMissing
from lib.practice.local_postgres import start_postgres
from lib.retrieval import _ann as ann
from lib.retrieval import _candidates as candidates
from lib.retrieval import search as retrieval
from lib.retrieval._ann import is_synchronized, nearest, synchronize, table_of
from lib.retrieval._candidates import state_of
from lib.retrieval.search import reembed, retrieve
from lib.store.memory_store import MemoryStore

FEW = 50


@pytest.fixture(autouse=True)
def approximate_from_few_on(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (candidates, retrieval):
        monkeypatch.setattr(module, "EXACT_UP_TO", FEW)
    monkeypatch.setattr(candidates, "BY_VECTOR", 20)
    monkeypatch.setattr(candidates, "BY_WORDS", 0)  # so that all that is found is found by its vector


@pytest.fixture(scope="module")
def postgres_server_url(postgres_server_url: str) -> Iterator[str]:
    """The server of the other tests, or, where that has no pgvector, the one that came along."""
    engine = connect(postgres_server_url, pool_size=1)
    with autocommit_connection(engine) as connection:
        there = ann._available(connection)
    engine.dispose()
    if there:
        yield postgres_server_url
        return
    with start_postgres() as server:
        yield server.url


@pytest.fixture(scope="module")
def postgres_engine(postgres_server_url: str) -> Iterator[Engine]:
    with fresh_schema(postgres_server_url) as url:
        engine = connect(url)
        create_tables(engine)
        yield engine
        engine.dispose()


@pytest.fixture
def store(postgres_engine: Engine, clock: Clock) -> MemoryStore:
    return MemoryStore(empty(postgres_engine), now=clock)


@pytest.fixture
def embedder() -> WordEmbedder:
    return WordEmbedder()


def fill(store: MemoryStore, user_id: str = "ada", *, count: int = 200) -> None:
    store.put_many(user_id, [("facts", str(n), {"content": f"{user_id} a{n % 14} b{n % 15}"}) for n in range(count)])


def keys(store: MemoryStore, query: str, embedder: WordEmbedder, user_id: str = "ada", limit: int = 5) -> list[str]:
    return [scored.item.key for scored in retrieve(store, user_id, query, limit=limit, embedder=embedder)]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int | None]]:
    """How many memories each question to the approximate index brought; None where it had no answer."""
    answers: list[int | None] = []

    def spy(*arguments: object) -> list[int] | None:
        found = nearest(*arguments)
        answers.append(None if found is None else len(found))
        return found

    monkeypatch.setattr(candidates, "nearest", spy)
    yield answers


def test_it_finds_what_an_exact_search_finds(
    store: MemoryStore, embedder: WordEmbedder, asked: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store)
    questions = [f"a{n} b{n + 1}" for n in range(14)]
    approximate = [keys(store, question, embedder, limit=1) for question in questions]
    monkeypatch.setattr(candidates, "EXACT_UP_TO", 10_000)

    exact = [keys(store, question, embedder, limit=1) for question in questions]

    assert approximate == exact
    assert asked == [20] * 14


def test_it_knows_what_was_put_and_what_was_deleted_since(
    store: MemoryStore, embedder: WordEmbedder, asked: list
) -> None:
    fill(store)
    first = keys(store, "a3 b3", embedder)

    store.put("ada", "facts", "new", {"content": "ada a3 b3"})
    second = keys(store, "a3 b3", embedder)
    store.delete("ada", "facts", "new")
    store.put("ada", "facts", "3", {"content": "something else"})
    third = keys(store, "a3 b3", embedder, limit=200)

    assert first[0] == "3"
    assert set(second[:2]) == {"3", "new"}
    assert not {"3", "new"} & set(third)
    assert asked == [20, 20, 20]


def test_of_many_users_in_one_index_each_finds_their_own(
    store: MemoryStore, embedder: WordEmbedder, asked: list
) -> None:
    users = [f"user{number}" for number in range(4)]
    for user_id in users:
        fill(store, user_id, count=80)

    for user_id in users:
        found = retrieve(store, user_id, "a5 b5", limit=20, embedder=embedder)
        assert {scored.item.user_id for scored in found} == {user_id}
        assert (len(found), found[0].item.key) == (20, "5")


def test_a_user_who_is_forgotten_leaves_nothing(store: MemoryStore, embedder: WordEmbedder) -> None:
    for user_id in ("ada", "bob"):
        fill(store, user_id, count=60)
        keys(store, "a1", embedder, user_id)

    store.forget_user("ada")

    with autocommit_connection(store.engine) as connection:
        owners = connection.scalars(text(f"SELECT DISTINCT user_id FROM {table_of(64)}")).all()
    assert owners == ["bob"]
    assert keys(store, "a1", embedder) == []


def test_few_memories_are_compared_exactly(store: MemoryStore, embedder: WordEmbedder, asked: list) -> None:
    fill(store, count=FEW)

    assert keys(store, "a3 b3", embedder)[0] == "3"
    assert asked == []


def test_with_conditions_the_search_is_exact(store: MemoryStore, embedder: WordEmbedder, asked: list) -> None:
    fill(store)

    found = retrieve(store, "ada", "a3 b3", limit=200, embedder=embedder, key_prefix="19")

    assert sorted(scored.item.key for scored in found) == sorted(["19", *map(str, range(190, 200))])
    assert asked == []


def test_without_pgvector_the_search_is_exact(store: MemoryStore, asked: list, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ann, "_available", lambda connection: False)
    embedder = WordEmbedder(dimensions=48)  # no table of vectors of this size
    fill(store)

    with pytest.warns(UserWarning, match="no pgvector that we may use"):
        assert keys(store, "a3 b3", embedder)[0] == "3"
    with pytest.warns(UserWarning, match="CREATE EXTENSION vector"):
        assert synchronize(store.engine, "ada", embedder) is False
    assert asked == [None]


def test_on_sqlite_there_is_none(sqlite_engine: Engine, clock: Clock, embedder: WordEmbedder) -> None:
    store = MemoryStore(empty(sqlite_engine), now=clock)
    fill(store)

    assert keys(store, "a3 b3", embedder)[0] == "3"
    assert synchronize(sqlite_engine, "ada", embedder) is False
    with read_transaction(sqlite_engine) as connection:
        assert is_synchronized(connection, "ada", embedder, 1)
        assert nearest(connection, "ada", embedder.name, embedder.embed(["a3"])[0], 5, 1) is None


def test_an_index_that_has_not_come_so_far_gives_no_answer(store: MemoryStore, embedder: WordEmbedder) -> None:
    fill(store)
    keys(store, "a3 b3", embedder)
    store.put("ada", "facts", "new", {"content": "a3 b3"})
    reembed(store, "ada", embedder, progress=False)

    with read_transaction(store.engine) as connection:
        newest = state_of(connection, "ada", embedder.name).newest
        assert not is_synchronized(connection, "ada", embedder, newest)
        assert nearest(connection, "ada", embedder.name, embedder.embed(["a3"])[0], 5, newest) is None


def test_where_it_finds_too_few_the_search_is_exact(
    store: MemoryStore, embedder: WordEmbedder, asked: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "BY_VECTOR", 500)
    fill(store)

    assert len(keys(store, "a3 b3", embedder, limit=500)) == 200
    assert asked == [None]


def test_a_second_model_has_vectors_of_its_own(store: MemoryStore, embedder: WordEmbedder, asked: list) -> None:
    fill(store)
    keys(store, "a3 b3", embedder)

    for other in (WordEmbedder("another"), WordEmbedder("larger", dimensions=96)):
        assert keys(store, "a3 b3", other)[0] == "3"

    with autocommit_connection(store.engine) as connection:
        counts = [connection.scalar(text(f"SELECT count(*) FROM {table_of(size)}")) for size in (64, 96)]
    assert counts == [0, 200]  # the vectors of a model go with those of the index
    assert asked == [20, 20, 20]


def test_within_a_transaction_it_is_asked_too_and_settings_stay(
    store: MemoryStore, embedder: WordEmbedder, asked: list
) -> None:
    with write_transaction(store.engine) as connection:
        inside = store.in_transaction(connection)
        fill(inside)
        found = keys(inside, "a3 b3", embedder)
        settings = [connection.scalar(text(f"SHOW enable_{name}")) for name in ("seqscan", "sort")]

    assert found == keys(store, "a3 b3", embedder)
    assert settings == ["on", "on"]
    assert asked == [20, 20]


def test_the_extension_outlives_the_schema_of_who_made_it(
    postgres_server_url: str, clock: Clock, embedder: WordEmbedder, asked: list
) -> None:
    with fresh_schema(postgres_server_url) as kept:
        second = connect(kept)
        create_tables(second)
        with fresh_schema(postgres_server_url) as dropped:
            first = connect(dropped)
            create_tables(first)
            with autocommit_connection(first) as connection:
                schema = ann._extension_schema(connection)
            for engine in (first, second):
                store = MemoryStore(engine, now=clock)
                fill(store)
                assert keys(store, "a3 b3", embedder)[0] == "3"
            first.dispose()

        assert keys(store, "a3 b3", embedder)[0] == "3"
        with autocommit_connection(second) as connection:
            assert ann._extension_schema(connection) == (schema or "public")
        second.dispose()
    assert asked == [20, 20, 20]


def test_without_our_tables_it_says_so(postgres_server_url: str, embedder: WordEmbedder) -> None:
    with fresh_schema(postgres_server_url) as url:
        engine = connect(url)
        with pytest.raises(TablesMissing, match="create_tables"):
            retrieve(MemoryStore(engine), "ada", "tea", embedder=embedder)
        engine.dispose()
