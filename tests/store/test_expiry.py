"""Memories with an end: from then on nobody finds them, and `expire` deletes them."""

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from conftest import DATABASES, START, Clock
from sqlalchemy import Engine, func, inspect, select

from lib.database.engine import connect, create_tables
from lib.database.tables import Memory
from lib.database.transactions import write_transaction
from lib.errors import InvalidInput
from lib.store.filters import not_lapsed
from lib.store.memory_store import MemoryStore

TOMORROW = START + timedelta(days=1)


def rows(engine: Engine) -> int:
    with engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(Memory))


def keys(store: MemoryStore, **conditions: Any) -> list[str]:
    return [item.key for item in store.search("ada", **conditions)]


def test_a_memory_lapses_at_the_very_moment_it_expires(store: MemoryStore, clock: Clock) -> None:
    store.put("ada", "facts", "visitor", {"n": 1}, expires_at=TOMORROW)

    clock.time = TOMORROW - timedelta(microseconds=1)
    before = store.get("ada", "facts", "visitor")
    clock.time = TOMORROW
    after = store.get("ada", "facts", "visitor")

    assert before == {"n": 1}
    assert after is None


@pytest.mark.parametrize(
    "conditions",
    [{}, {"namespace": "facts"}, {"namespace": "facts", "limit": None}, {"key_prefix": "v"}, {"since": START}],
    ids=repr,
)
def test_no_search_finds_a_lapsed_memory(store: MemoryStore, clock: Clock, conditions: dict) -> None:
    store.put("ada", "facts", "visits", {"content": "Ada is often visited."})
    store.put("ada", "facts", "visitor", {"content": "Bob visits Ada."}, expires_at=TOMORROW)
    assert keys(store, **conditions) == ["visitor", "visits"]

    clock.time = TOMORROW

    assert keys(store, **conditions) == ["visits"]
    assert [item.key for item in store.search_by_content("ada", "visit")] == ["visits"]
    assert store.list_namespaces("ada") == {"facts": 1}


def test_lapsed_memories_take_no_place_on_a_page(store: MemoryStore, clock: Clock) -> None:
    for number in range(6):
        store.put("ada", "facts", f"k{number}", {}, expires_at=TOMORROW if number % 2 else None)
    clock.time = TOMORROW

    assert keys(store, namespace="facts", limit=2) == ["k4", "k2"]
    assert keys(store, namespace="facts", limit=2, offset=2) == ["k0"]


def test_a_lapsed_memory_has_no_history(store: MemoryStore, clock: Clock) -> None:
    store.put("ada", "facts", "visitor", {"n": 1})
    store.put("ada", "facts", "visitor", {"n": 2}, expires_at=TOMORROW)
    assert len(store.history("ada", "facts", "visitor")) == 2

    clock.time = TOMORROW

    assert store.history("ada", "facts", "visitor") == []


def test_an_item_tells_when_it_expires_in_utc(store: MemoryStore) -> None:
    two_hours_ahead = TOMORROW.astimezone(timezone(timedelta(hours=2)))

    put = store.put("ada", "facts", "visitor", {}, expires_at=two_hours_ahead)
    store.put("ada", "facts", "home", {})

    assert put.expires_at == TOMORROW and put.expires_at.utcoffset() == timedelta(0)
    assert [item.expires_at for item in store.search("ada", "facts")] == [None, TOMORROW]


def test_a_later_put_replaces_the_end_and_none_takes_it_away(store: MemoryStore, clock: Clock) -> None:
    for key in ("longer", "forever", "many"):
        store.put("ada", "facts", key, {}, expires_at=TOMORROW)

    store.put("ada", "facts", "longer", {}, expires_at=TOMORROW + timedelta(days=1))
    store.put("ada", "facts", "forever", {})
    store.put_many("ada", [("facts", "many", {})])

    clock.time = TOMORROW
    assert sorted(keys(store)) == ["forever", "longer", "many"]
    clock.advance(days=1)
    assert sorted(keys(store)) == ["forever", "many"]


@pytest.mark.parametrize("kind", DATABASES)
@pytest.mark.parametrize("wrong", [datetime(2026, 3, 2), "2026-03-02", 5, timedelta(days=1)], ids=repr)
def test_an_end_that_is_no_aware_datetime_is_refused(store: MemoryStore, kind: str, wrong: Any) -> None:
    with pytest.raises(InvalidInput):
        store.put("ada", "facts", "visitor", {}, expires_at=wrong)

    assert store.list_namespaces("ada") == {}


def test_expire_deletes_what_has_lapsed_of_this_user_and_nothing_else(
    store: MemoryStore, clock: Clock, engine: Engine
) -> None:
    for user in ("ada", "bob"):
        store.put(user, "facts", "visitor", {}, expires_at=TOMORROW)
        store.put(user, "facts", "later", {}, expires_at=TOMORROW + timedelta(seconds=1))
        store.put(user, "facts", "home", {})
    clock.time = TOMORROW

    first, second = store.expire("ada"), store.expire("ada")

    assert (first, second, store.expire("nobody")) == (1, 0, 0)
    assert rows(engine) == 5
    assert sorted(keys(store)) == ["home", "later"]


def test_the_archive_keeps_nothing_past_its_end(store: MemoryStore, clock: Clock) -> None:
    store.put("ada", "facts", "visitor", {}, expires_at=TOMORROW)
    store.put("ada", "facts", "home", {})
    store.archive("ada", [("facts", "visitor"), ("facts", "home")])
    clock.time = TOMORROW

    assert [item.key for item in store.archived("ada")] == ["home"]
    assert store.restore("ada", "facts", "visitor") is False
    assert store.expire("ada") == 1


def test_within_a_transaction_the_end_counts_too(store: MemoryStore, clock: Clock, engine: Engine) -> None:
    with write_transaction(engine) as connection:
        store.in_transaction(connection).put("ada", "facts", "visitor", {}, expires_at=TOMORROW)
        clock.time = TOMORROW
        inside = store.in_transaction(connection)

        assert inside.get("ada", "facts", "visitor") is None
        assert inside.search("ada", "facts") == []
        assert inside.expire("ada") == 1


def test_the_condition_serves_queries_of_others(store: MemoryStore, clock: Clock, engine: Engine) -> None:
    store.put("ada", "facts", "visitor", {}, expires_at=TOMORROW)
    store.put("ada", "facts", "home", {})

    with engine.connect() as connection:
        now = connection.scalars(select(Memory.key).where(not_lapsed(START))).all()
        then = connection.scalars(select(Memory.key).where(not_lapsed(TOMORROW))).all()

    assert (sorted(now), then) == (["home", "visitor"], ["home"])


def test_a_database_of_an_older_workbook_gets_the_column(bare_database_url: str, clock: Clock) -> None:
    engine = connect(bare_database_url)
    create_tables(engine)
    MemoryStore(engine, now=clock).put("ada", "facts", "home", {"n": 1})
    with write_transaction(engine) as connection:
        connection.exec_driver_sql("ALTER TABLE memories DROP COLUMN expires_at")

    create_tables(engine)

    store = MemoryStore(engine, now=clock)
    assert store.get("ada", "facts", "home") == {"n": 1}
    assert "expires_at" in {column["name"] for column in inspect(engine).get_columns("memories")}
    engine.dispose()
