"""What a memory said before: kept by the database, whoever writes, and deleted with the memory."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, timedelta
from itertools import pairwise
from typing import Any

import pytest
from conftest import DATABASES, START, Clock, fresh_schema
from sqlalchemy import Engine, func, inspect, select, text, update

from lib.database import PastVersion
from lib.database.engine import connect, create_tables
from lib.database.tables import Memory
from lib.database.transactions import hold_user, write_transaction
from lib.errors import InvalidInput, TablesMissing
from lib.store import MemoryVersion
from lib.store.items import Forgotten
from lib.store.memory_store import MemoryStore


def versions(engine: Engine) -> int:
    with engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(PastVersion))


def values(store: MemoryStore, key: str = "home") -> list[Any]:
    return [version.value.get("n") for version in store.history("ada", "facts", key)]


# --- what is kept ---------------------------------------------------------------------------------


def test_history_begins_with_the_first_value_and_ends_with_the_current_one(store: MemoryStore, clock: Clock) -> None:
    store.put("ada", "facts", "home", {"city": "Paris"})
    second = clock.advance(days=1)
    store.put("ada", "facts", "home", {"city": "Rome"})
    third = clock.advance(days=1)
    store.put_many("ada", [("facts", "home", {"city": "Montréal"})])

    history = store.history("ada", "facts", "home")

    assert history == [
        MemoryVersion({"city": "Paris"}, START, second),
        MemoryVersion({"city": "Rome"}, second, third),
        MemoryVersion({"city": "Montréal"}, third, None),
    ]
    assert all(version.written_at.tzinfo is UTC for version in history)
    assert history[0].replaced_at.tzinfo is UTC


def test_a_memory_that_never_changed_has_one_version_and_no_row_of_history(store: MemoryStore, engine: Engine) -> None:
    store.put("ada", "facts", "home", {"n": 1})
    store.put_many("ada", [("facts", f"key-{number}", {}) for number in range(20)])

    assert store.history("ada", "facts", "home") == [MemoryVersion({"n": 1}, START, None)]
    assert versions(engine) == 0


def test_a_memory_that_is_not_there_has_no_history(store: MemoryStore) -> None:
    store.put("ada", "facts", "home", {"n": 1})

    assert store.history("ada", "facts", "work") == store.history("bob", "facts", "home") == []


def test_a_put_of_an_equal_value_leaves_no_version_and_no_gap(store: MemoryStore, clock: Clock) -> None:
    store.put("ada", "facts", "home", {"a": 1, "bb": "é"})
    clock.advance(days=1)
    store.put("ada", "facts", "home", {"bb": "é", "a": 1})
    later = clock.advance(days=1)
    store.put("ada", "facts", "home", {"a": 2})

    history = store.history("ada", "facts", "home")

    assert history == [MemoryVersion({"a": 1, "bb": "é"}, START, later), MemoryVersion({"a": 2}, later, None)]


@pytest.mark.parametrize("other", [{"n": 1.0}, {"n": True}, {"n": "1"}, {"n": [1]}, {"n": 1, "m": None}, {}], ids=repr)
def test_values_that_differ_make_a_version_on_both_databases(store: MemoryStore, other: dict[str, Any]) -> None:
    store.put("ada", "facts", "home", {"n": 1})

    store.put("ada", "facts", "home", other)

    found = [repr(version.value) for version in store.history("ada", "facts", "home")]
    assert found == [repr({"n": 1}), repr(store.get("ada", "facts", "home"))]
    assert store.get("ada", "facts", "home") == other


def test_versions_of_one_instant_keep_their_order(store: MemoryStore) -> None:
    for number in range(12):
        store.put("ada", "facts", "home", {"n": number})

    assert values(store) == list(range(12))


def test_each_memory_has_its_own_history(store: MemoryStore) -> None:
    for number in range(3):
        store.put("ada", "facts", "home", {"n": number})
        store.put("ada", "facts", "work", {"n": number * 10})
        store.put("bob", "facts", "home", {"n": number * 100})

    assert values(store) == [0, 1, 2]
    assert values(store, "work") == [0, 10, 20]


def test_a_write_that_went_past_the_store_is_kept_too(store: MemoryStore, engine: Engine, clock: Clock) -> None:
    store.put("ada", "facts", "home", {"n": 1})
    later = clock.advance(days=1)

    with engine.begin() as connection:
        connection.execute(update(Memory).values(value={"n": 2}, updated_at=later))

    assert store.history("ada", "facts", "home")[0] == MemoryVersion({"n": 1}, START, later)
    assert values(store) == [1, 2]


def test_a_write_of_the_same_value_in_another_spacing_leaves_no_version(store: MemoryStore, engine: Engine) -> None:
    store.put("ada", "facts", "home", {"a": 1, "b": [1, 2]})

    with engine.begin() as connection:
        connection.execute(text('UPDATE memories SET value = \'{ "a": 1,  "b": [1, 2] }\''))

    assert versions(engine) == 0


def test_a_value_that_is_no_json_can_still_be_replaced() -> None:
    engine = connect("sqlite://")  # PostgreSQL would not have taken it
    create_tables(engine)
    store = MemoryStore(engine)
    store.put("ada", "facts", "home", {"n": 1})
    with engine.begin() as connection:
        connection.execute(text("UPDATE memories SET value = '{\"n\": NaN'"))

    store.put("ada", "facts", "home", {"n": 2})

    assert store.get("ada", "facts", "home") == {"n": 2}
    engine.dispose()


def test_a_write_that_is_undone_leaves_no_version(store: MemoryStore, engine: Engine) -> None:
    store.put("ada", "facts", "home", {"n": 1})

    with pytest.raises(ZeroDivisionError), write_transaction(engine) as connection:
        store.in_transaction(connection).put("ada", "facts", "home", {"n": 2})
        assert len(store.in_transaction(connection).history("ada", "facts", "home")) == 2
        1 / 0  # noqa: B018

    assert values(store) == [1]


def test_eight_threads_that_replace_one_value_leave_every_version(store: MemoryStore) -> None:
    store.put("ada", "facts", "home", {"n": -1})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: store.put("ada", "facts", "home", {"n": n}), range(80)))

    assert sorted(values(store)) == list(range(-1, 80))
    history = store.history("ada", "facts", "home")
    assert all(one.replaced_at == other.written_at for one, other in pairwise(history))


# --- what is deleted ------------------------------------------------------------------------------

DELETIONS: dict[str, Callable[[MemoryStore], Any]] = {
    "delete": lambda store: store.delete("ada", "facts", "home"),
    "clear": lambda store: store.clear("ada", "facts"),
    "forget_user": lambda store: store.forget_user("ada"),
}


@pytest.mark.parametrize("delete", DELETIONS.values(), ids=DELETIONS)
def test_a_deleted_memory_has_no_history_left(store: MemoryStore, engine: Engine, delete: Callable) -> None:
    for number in range(5):
        store.put("ada", "facts", "home", {"n": number})
        store.put("bob", "facts", "home", {"n": number})

    delete(store)

    assert store.history("ada", "facts", "home") == []
    assert versions(engine) == len(store.history("bob", "facts", "home")) - 1 == 4
    store.put("ada", "facts", "home", {"n": "new"})
    assert values(store) == ["new"]


def test_forgetting_a_user_counts_the_versions(store: MemoryStore) -> None:
    for number in range(3):
        store.put("ada", "facts", "home", {"n": number})
        store.put("ada", "facts", "work", {"n": number})

    assert store.forget_user("ada") == Forgotten(memories=2, sessions=0, cached_contents=0, versions=4)


def test_clear_counts_memories_and_not_their_versions(store: MemoryStore) -> None:
    for number in range(3):
        store.put("ada", "facts", "home", {"n": number})

    assert store.clear("ada", "facts") == 1


# --- how it shows, and what is refused ------------------------------------------------------------


def test_history_shows_as_a_table_with_its_text_escaped(store: MemoryStore, clock: Clock) -> None:
    store.put("ada", "facts", "home", {"content": "<b>Paris</b>"})
    clock.advance(days=1)
    store.put("ada", "facts", "home", {"content": "Rome"})

    history = store.history("ada", "facts", "home")

    assert repr(history).splitlines() == [
        "2026-03-01 12:00 - 2026-03-02 12:00  <b>Paris</b>",
        "2026-03-02 12:00 - now               Rome",
    ]
    assert "&lt;b&gt;Paris" in history._repr_html_() and "<b>" not in history._repr_html_()
    assert "2026-03-02 12:00" in history[0]._repr_html_()
    assert repr(store.history("ada", "facts", "x")) == "no versions"
    assert "no versions" in store.history("ada", "facts", "x")._repr_html_()


@pytest.mark.parametrize("bad", [("", "facts", "k"), ("ada", None, "k"), ("ada", "facts", "x" * 201)], ids=repr)
def test_history_refuses_names_that_cannot_be_stored(store: MemoryStore, bad: tuple) -> None:
    with pytest.raises(InvalidInput):
        store.history(*bad)


# --- the database: old ones, schemas --------------------------------------------------------------

OLD = {
    "sqlite": ["DROP TRIGGER memory_keeps_version"],
    "postgresql": ["DROP TRIGGER memory_keeps_version ON memories", "DROP FUNCTION keep_memory_version"],
}

AN_OLD_SESSION = "('00000000-0000-7000-8000-000000000000', 'ada', '2026-01-01', '{}')"


def test_an_older_database_gets_what_it_lacks_and_keeps_what_it_has(bare_database_url: str) -> None:
    engine = connect(bare_database_url)
    create_tables(engine)
    store = MemoryStore(engine)
    store.put("ada", "facts", "home", {"n": 1})
    with engine.begin() as connection:
        connection.execute(text("DROP INDEX ix_session_to_extract"))
        for change in [*OLD[engine.dialect.name], "DROP TABLE memory_versions"]:
            connection.execute(text(change))
        connection.execute(text("ALTER TABLE sessions DROP COLUMN state"))
        connection.execute(text("ALTER TABLE sessions DROP COLUMN attempts"))
        connection.execute(text(f"INSERT INTO sessions (id, user_id, started_at, metadata) VALUES {AN_OLD_SESSION}"))
    with pytest.raises(TablesMissing):
        store.history("ada", "facts", "home")
    store.put("ada", "facts", "home", {"n": 2})

    create_tables(engine)

    store.put("ada", "facts", "home", {"n": 3})
    assert values(store) == [2, 3]
    assert {"state", "attempts"} <= {column["name"] for column in inspect(engine).get_columns("sessions")}
    assert "ix_session_to_extract" in {index["name"] for index in inspect(engine).get_indexes("sessions")}
    assert store.forget_user("ada") == Forgotten(memories=1, sessions=1, cached_contents=0, versions=1)
    engine.dispose()


def test_two_schemas_of_one_server_keep_their_histories_apart(postgres_server_url: str) -> None:
    with fresh_schema(postgres_server_url) as one, fresh_schema(postgres_server_url) as other:
        engines = [connect(url) for url in (one, other)]
        for engine in [*engines, *engines]:
            create_tables(engine)
        stores = [MemoryStore(engine) for engine in engines]

        for number in range(3):
            stores[0].put("ada", "facts", "home", {"n": number})
        stores[1].put("ada", "facts", "home", {"n": 0})

        assert [versions(engine) for engine in engines] == [2, 0]
        for engine in engines:
            engine.dispose()


def test_a_writer_with_another_search_path_writes_to_the_right_history(postgres_server_url: str) -> None:
    with fresh_schema(postgres_server_url) as url:
        engine, outside = connect(url), connect(postgres_server_url)
        create_tables(engine)
        store = MemoryStore(engine)
        store.put("ada", "facts", "home", {"n": 1})
        with engine.connect() as connection:
            schema = connection.scalar(text("SELECT current_schema()"))

        with outside.begin() as connection:
            connection.exec_driver_sql("CREATE TEMPORARY TABLE memory_versions (id int)")  # a trap
            connection.execute(text(f"""UPDATE {schema}.memories SET value = '{{"n": 2}}'"""))
            path = connection.scalar(text("SHOW search_path"))

        assert values(store) == [1, 2]
        assert schema not in path
        engine.dispose()
        outside.dispose()


def test_creating_the_tables_leaves_the_search_path_as_it_was(postgres_server_url: str) -> None:
    with fresh_schema(postgres_server_url) as url:
        engine = connect(url, pool_size=1, max_overflow=0)
        with engine.connect() as connection:
            before = connection.scalar(text("SHOW search_path"))

        create_tables(engine)

        with engine.connect() as connection:
            assert connection.scalar(text("SHOW search_path")) == before
        engine.dispose()


# --- a store within a transaction -----------------------------------------------------------------


def test_calls_within_a_transaction_are_kept_together(store: MemoryStore, engine: Engine) -> None:
    with write_transaction(engine) as connection:
        inside = store.in_transaction(connection)
        item = inside.put("ada", "facts", "a", {"n": 1})
        assert inside.put_many("ada", [("facts", "b", {}), ("plans", "c", {})]) == 2
        assert inside.get("ada", "facts", "a") == {"n": 1}
        assert inside.search("ada", "facts", key_prefix="a") == [item]
        assert {found.key for found in inside.search("ada", "facts")} == {"a", "b"}
        assert inside.list_namespaces("ada") == {"facts": 2, "plans": 1}
        assert inside.clear("ada", "plans") == 1
        assert inside.delete("ada", "facts", "b") is True

    assert store.search("ada") == [item]
    assert engine.pool.checkedout() == 0


def test_calls_within_a_transaction_are_undone_together(store: MemoryStore, engine: Engine) -> None:
    store.put("ada", "facts", "kept", {"n": 1})

    with pytest.raises(ZeroDivisionError), write_transaction(engine) as connection:
        inside = store.in_transaction(connection)
        inside.put("new", "facts", "a", {})
        inside.put("ada", "facts", "kept", {"n": 2})
        inside.put_many("ada", [("facts", "b", {})])
        inside.delete("ada", "facts", "kept")
        inside.clear("ada", "facts")
        inside.forget_user("ada")
        1 / 0  # noqa: B018

    assert store.get("ada", "facts", "kept") == {"n": 1}
    assert store.list_namespaces("ada") == {"facts": 1} and store.list_namespaces("new") == {}


def test_nobody_sees_what_is_within_a_transaction_before_its_end(database_url: str) -> None:
    engine = connect(database_url)
    store = MemoryStore(engine)

    with write_transaction(engine) as connection:
        store.in_transaction(connection).put("ada", "facts", "a", {})
        assert store.get("ada", "facts", "a") is None

    assert store.get("ada", "facts", "a") == {}
    engine.dispose()


def test_an_unknown_user_does_not_spoil_the_transaction(store: MemoryStore, engine: Engine) -> None:
    with write_transaction(engine) as connection:
        for number in range(3):
            store.in_transaction(connection).put(f"user-{number}", "facts", "a", {"n": number})

    assert [store.get(f"user-{number}", "facts", "a") for number in range(3)] == [{"n": n} for n in range(3)]


def test_what_is_refused_within_a_transaction_leaves_it_usable(store: MemoryStore, engine: Engine) -> None:
    with write_transaction(engine) as connection:
        inside = store.in_transaction(connection)
        for call in (inside.put, inside.delete):
            with pytest.raises(InvalidInput):
                call("ada", "facts", "", *([{}] if call == inside.put else []))
        inside.put("ada", "facts", "a", {})

    assert store.get("ada", "facts", "a") == {}


@pytest.mark.parametrize("kind", DATABASES)
@pytest.mark.parametrize("bad", [None, "connection", 5], ids=repr)
def test_within_takes_an_open_connection_only(store: MemoryStore, engine: Engine, kind: str, bad: Any) -> None:
    for wrong in (bad, engine):
        with pytest.raises(InvalidInput, match="open connection"):
            store.in_transaction(wrong)


def test_two_who_delete_and_write_within_transactions_do_not_deadlock(store: MemoryStore, engine: Engine) -> None:
    store.put_many("ada", [("facts", f"key-{number}", {}) for number in range(6)])

    def work(worker: int) -> None:
        for turn in range(25):
            with write_transaction(engine) as connection:
                inside = store.in_transaction(connection)
                order = range(6) if worker % 2 else range(5, -1, -1)
                for number in order:
                    inside.delete("ada", "facts", f"key-{number}")
                    inside.put("ada", "facts", f"key-{number}", {"turn": turn})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))

    assert store.list_namespaces("ada") == {"facts": 6}


def test_a_plain_put_of_the_key_that_a_transaction_comes_to_write_does_not_deadlock(
    store: MemoryStore, engine: Engine
) -> None:
    store.put("ada", "facts", "home", {})

    with ThreadPoolExecutor(1) as pool, write_transaction(engine) as connection:
        hold_user(connection, "ada")
        plain = pool.submit(store.put, "ada", "facts", "new", {"n": "plain"})
        wait([plain], timeout=0.5)  # its row is written, or waits for ours to end
        store.in_transaction(connection).put("ada", "facts", "new", {"n": "within"})

    assert plain.result().key == "new"
    assert store.list_namespaces("ada") == {"facts": 2}


def test_equal_times_do_not_hide_a_version_when_the_clock_goes_back(store: MemoryStore, clock: Clock) -> None:
    store.put("ada", "facts", "home", {"n": 1})
    clock.time -= timedelta(days=1)

    store.put("ada", "facts", "home", {"n": 2})
    store.put("ada", "facts", "home", {"n": 3})

    assert values(store) == [1, 2, 3]
