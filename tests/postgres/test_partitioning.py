"""The tables in partitions by user: the same behaviour, and a call that names its user touches one of them."""

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from conftest import ROOT, Clock, fresh_schema
from sqlalchemy import Engine, inspect, text
from word_embedder import WordEmbedder

from lib.database.engine import connect, create_tables
from lib.database.tables import Base, new_id
from lib.errors import InvalidInput
from lib.formation.session_log import SessionLog
from lib.postgres.partitioning import PARTITIONED, create_partitioned_tables, partition_sizes, partitioned_metadata
from lib.postgres.transfer import copy_memories
from lib.retrieval.search import retrieve
from lib.store.items import Forgotten
from lib.store.memory_store import MemoryStore
from lib.workbook.trials.plans import explain

PARTITIONS = 4
USERS = [f"user-{number}" for number in range(40)]


@pytest.fixture(scope="module")
def parted(postgres_server_url: str) -> Iterator[Engine]:
    with fresh_schema(postgres_server_url) as url:
        engine = connect(url)
        create_partitioned_tables(engine, PARTITIONS)
        yield engine
        engine.dispose()


@pytest.fixture
def store(parted: Engine, clock: Clock) -> MemoryStore:
    with parted.begin() as connection:
        connection.execute(text("DELETE FROM users"))
    return MemoryStore(parted, now=clock)


# --- the same tables ------------------------------------------------------------------------------


def test_the_tables_are_those_of_the_models_but_for_their_keys(parted: Engine, postgres_engine: Engine) -> None:
    with parted.connect() as one, postgres_engine.connect() as other:
        for table in Base.metadata.sorted_tables:
            there, usual = inspect(one), inspect(other)
            schemas = [connection.scalar(text("SELECT current_schema()")) for connection in (one, other)]
            columns = [
                [(c["name"], repr(c["type"]), c["nullable"]) for c in i.get_columns(table.name, schema=schema)]
                for i, schema in zip((there, usual), schemas, strict=True)
            ]
            keys = [
                i.get_pk_constraint(table.name, schema=schema)["constrained_columns"]
                for i, schema in zip((there, usual), schemas, strict=True)
            ]
            assert columns[0] == columns[1]
            assert keys[0] == keys[1] + (["user_id"] if table.name in PARTITIONED else [])


def test_the_models_are_left_as_they_are() -> None:
    before = {table.name: sorted(map(repr, table.constraints)) for table in Base.metadata.sorted_tables}

    partitioned_metadata()

    assert before == {table.name: sorted(map(repr, table.constraints)) for table in Base.metadata.sorted_tables}
    assert [column.name for column in Base.metadata.tables["memories"].primary_key] == ["id"]


def test_creating_them_again_changes_nothing(store: MemoryStore, parted: Engine) -> None:
    store.put("ada", "facts", "home", {"n": 1})

    create_partitioned_tables(parted, PARTITIONS)
    create_tables(parted)

    assert store.get("ada", "facts", "home") == {"n": 1}
    assert len(partition_sizes(parted)) == PARTITIONS


# --- the same behaviour ---------------------------------------------------------------------------


def test_a_memory_lives_its_whole_life(store: MemoryStore, parted: Engine, clock: Clock) -> None:
    for user in USERS:
        for version in range(3):
            clock.advance(seconds=1)
            store.put(user, "facts", "home", {"content": f"{user} moved to house {version}", "n": version})
        store.put_many(user, [("facts", f"key-{n}", {"n": n}) for n in range(5)])
        store.put(user, "facts", "lapsing", {}, expires_at=clock.time + timedelta(days=1))

    ada = USERS[0]
    assert [version.value["n"] for version in store.history(ada, "facts", "home")] == [0, 1, 2]
    assert store.list_namespaces(ada) == {"facts": 7}
    assert [item.key for item in store.search_by_content(ada, "house 2")] == ["home"]
    clock.advance(days=2)
    assert store.expire(ada) == 1
    assert store.archive(ada, [("facts", "home"), ("facts", "key-1")], reason="old") == 2
    assert [item.key for item in store.archived(ada)] == ["key-1", "home"]
    assert store.restore(ada, "facts", "home") is True
    assert store.history(ada, "facts", "home")[0].value["n"] == 2
    assert store.delete(ada, "facts", "key-0") is True
    assert sum(partition_sizes(parted).values()) == 40 * 7 - 3
    assert store.forget_user(ada) == Forgotten(memories=4, sessions=0, cached_contents=0, versions=0, archived=1)
    assert store.forget_user(USERS[1]).versions == 2
    assert sum(partition_sizes(parted, "archived_memories").values()) == 0


def test_the_search_finds_by_words_and_forgets_what_changed(store: MemoryStore, parted: Engine) -> None:
    embedder = WordEmbedder()
    for user in USERS[:8]:
        store.put(user, "facts", "pet", {"content": f"The cat of {user} is called Tiger"})
        store.put(user, "facts", "work", {"content": f"The office of {user} is in Lund"})

    found = retrieve(store, USERS[3], "what is the cat called", embedder=embedder)
    assert found[0].item.key == "pet" and {one.item.user_id for one in found} == {USERS[3]}

    store.put(USERS[3], "facts", "pet", {"content": "The dog barks"})
    assert retrieve(store, USERS[3], "dog", embedder=embedder)[0].item.value == {"content": "The dog barks"}
    sizes = partition_sizes(parted, "memory_index")
    assert sum(sizes.values()) == 2


def test_conversations_are_claimed_as_ever(store: MemoryStore, parted: Engine, clock: Clock) -> None:
    log = SessionLog(parted, now=clock)
    ids = [log.finish(user, [{"turn": 1, "speaker": "user", "text": "Hello"}]) for user in USERS[:3]]

    claimed = log.claim()
    log.complete(claimed, write=lambda c: store.in_transaction(c).put(claimed.user_id, "facts", "said", {}))

    assert claimed.id == ids[0]
    assert store.get(USERS[0], "facts", "said") == {}


def test_memories_move_into_partitions_and_out_again(store: MemoryStore, parted: Engine) -> None:
    plain, back = connect("sqlite://"), connect("sqlite://")
    create_tables(plain)
    create_tables(back)
    there = MemoryStore(plain, now=Clock())
    for user in USERS[:10]:
        for version in range(3):
            there.put(user, "facts", "home", {"n": version})
        there.put(user, "facts", "old", {})
        there.archive(user, [("facts", "old")])

    results = [copy_memories(plain, parted), copy_memories(parted, back), copy_memories(parted, plain)]

    assert all(result.verified for result in results)
    assert [result.copied for result in results] == [30, 30, 0]
    plain.dispose()
    back.dispose()


# The quick ones. WORKBOOK_TEST_PARTITIONS=8 runs any others so: tests/store, tests/formation, tests/retrieval, …
TESTS = ("tests/store/test_history.py", "tests/store/test_archive.py")


def test_the_tests_of_lib_pass_on_partitions(postgres_server_url: str) -> None:
    given = {**os.environ, "WORKBOOK_TEST_PARTITIONS": str(PARTITIONS), "POSTGRES_URL": postgres_server_url}
    command = [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", *TESTS]

    result = subprocess.run(
        [*command, "-k", "postgresql"], cwd=ROOT, env=given, capture_output=True, text=True, timeout=300
    )

    assert result.returncode == 0, result.stdout[-3000:]


# --- what it is for -------------------------------------------------------------------------------

QUERY = "SELECT value FROM memories WHERE {} ORDER BY updated_at DESC, id DESC LIMIT 10"
ONE_USER, ALL_USERS = QUERY.format("user_id = :user_id"), QUERY.format("namespace = :namespace")


def test_a_query_that_names_its_user_reads_one_partition_and_another_all(store: MemoryStore, parted: Engine) -> None:
    store.put("ada", "facts", "home", {})

    one, every = explain(parted, ONE_USER, user_id="ada"), explain(parted, ALL_USERS, namespace="facts")

    [holder] = [name for name, count in partition_sizes(parted).items() if count]
    assert one.tables == {holder}
    assert every.tables == {f"memories_p{number}" for number in range(PARTITIONS)}


CALLS = {
    "put": lambda store: store.put("ada", "facts", "home", {"n": new_id()}),  # another value, so that the triggers run
    "get": lambda store: store.get("ada", "facts", "home"),
    "search": lambda store: store.search("ada", "facts"),
    "search all": lambda store: store.search("ada"),
    "history": lambda store: store.history("ada", "facts", "home"),
    "delete": lambda store: store.delete("ada", "facts", "home"),
    "archived": lambda store: store.archived("ada"),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_the_calls_of_the_store_stay_in_one_partition(store: MemoryStore, parted: Engine, call: Any) -> None:
    store.put("ada", "facts", "home", {"n": 1})
    call(store)
    locks = text(
        "SELECT DISTINCT relation::regclass::text FROM pg_locks JOIN pg_class ON pg_class.oid = relation "
        "WHERE pid = pg_backend_pid() AND relkind = 'r' AND relname ~ '^(memories|memory_versions|archived_memories)_p'"
    )

    with parted.begin() as connection:
        # A plan that was kept for any user locks all partitions, though it reads one.
        connection.execute(text("SET LOCAL plan_cache_mode = 'force_custom_plan'"))
        call(store.in_transaction(connection))
        held = set(connection.scalars(locks))

    for table in PARTITIONED:
        assert len({name for name in held if name.rpartition(".")[2].startswith(f"{table}_p")}) <= 1, held


def test_the_sizes_count_empty_partitions_too(store: MemoryStore, parted: Engine) -> None:
    store.put_many("ada", [("facts", f"key-{n}", {}) for n in range(7)])

    sizes = partition_sizes(parted)

    assert list(sizes) == [f"memories_p{number}" for number in range(PARTITIONS)]
    assert sorted(sizes.values()) == [0, 0, 0, 7]


# --- what is refused ------------------------------------------------------------------------------


def test_sqlite_has_none_and_the_error_says_what_to_do() -> None:
    engine = connect("sqlite://")

    with pytest.raises(InvalidInput, match=r"sqlite has no partitions.*create_tables"):
        create_partitioned_tables(engine)
    with pytest.raises(InvalidInput, match="sqlite has no partitions"):
        partition_sizes(engine)
    engine.dispose()


def test_tables_in_one_piece_are_left_alone(postgres_engine: Engine) -> None:
    with pytest.raises(InvalidInput, match=r"memories is there already, in one piece.*copy_memories"):
        create_partitioned_tables(postgres_engine)
    with pytest.raises(InvalidInput, match="is not partitioned here"):
        partition_sizes(postgres_engine)


def test_another_number_of_partitions_is_refused(parted: Engine) -> None:
    with pytest.raises(InvalidInput, match=r"in 4 partitions, and can't be parted into 8.*copy_memories"):
        create_partitioned_tables(parted, 8)


@pytest.mark.parametrize("bad", [0, -1, 1001, 2.0, True, "8", None], ids=repr)
def test_a_number_of_partitions_is_checked(parted: Engine, bad: Any) -> None:
    with pytest.raises(InvalidInput, match="partitions must be a whole number"):
        create_partitioned_tables(parted, bad)


def test_a_table_that_is_never_partitioned_has_no_sizes(parted: Engine) -> None:
    with pytest.raises(InvalidInput, match="'users' is not partitioned here"):
        partition_sizes(parted, "users")
