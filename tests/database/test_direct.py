"""Statements through the driver's own cursor do what they do through SQLAlchemy."""

import logging
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, bindparam, event, select

from lib.database._direct import DirectStatement
from lib.database.engine import connect, create_tables
from lib.database.tables import Memory
from lib.database.transactions import write_transaction
from lib.store.memory_store import MemoryStore
from lib.store.upsert import BATCH_CHARACTERS, batches

by_user = select(Memory.key, Memory.value, Memory.updated_at).where(Memory.user_id == bindparam("user_id"))


def test_rows_come_back_as_python_values(engine: Engine, store: MemoryStore) -> None:
    item = store.put("ada", "facts", "k", {"n": [1, 2.5, None]})

    rows = DirectStatement(engine, by_user).rows({"user_id": "ada"})

    assert rows == [("k", {"n": [1, 2.5, None]}, item.updated_at)]
    assert rows[0][2].tzinfo is UTC


def test_a_transaction_that_is_open_is_used_and_can_be_rolled_back(engine: Engine, store: MemoryStore) -> None:
    store.put("ada", "facts", "k", {})
    statement = DirectStatement(engine, by_user)

    with pytest.raises(ZeroDivisionError), write_transaction(engine) as connection:
        assert len(statement.rows_within(connection, {"user_id": "ada"})) == 1
        store._upserts.many(connection, [store._row("ada", "facts", "second", {}, datetime.now(UTC))[1]])
        assert len(statement.rows_within(connection, {"user_id": "ada"})) == 2
        1 / 0  # noqa: B018

    assert [key for key, *_ in statement.rows({"user_id": "ada"})] == ["k"]


def test_a_connection_comes_back_as_it_was_lent(engine: Engine, store: MemoryStore) -> None:
    """Else a later transaction on it would be none: each of its statements would be kept at once."""
    store.put("ada", "facts", "k", {"n": 1})
    store.get("ada", "facts", "k")

    with pytest.raises(ZeroDivisionError), engine.begin() as connection:
        connection.execute(Memory.__table__.delete())
        1 / 0  # noqa: B018

    assert store.get("ada", "facts", "k") == {"n": 1}


def test_a_connection_comes_back_as_it_was_lent_after_an_error(engine: Engine) -> None:
    create_tables(engine)
    store = MemoryStore(engine)

    for number in range(20):  # each time the user is unknown: the first statement fails
        store.put(f"user {number}", "facts", "k", {"n": 1})
    with pytest.raises(ZeroDivisionError), engine.begin() as connection:
        connection.execute(Memory.__table__.delete())
        1 / 0  # noqa: B018

    assert store.get("user 7", "facts", "k") == {"n": 1}


def test_who_listens_to_the_engine_hears_every_statement(engine: Engine, store: MemoryStore) -> None:
    heard = []

    def listen(connection, cursor, statement, *rest) -> None:
        heard.append(statement.split()[0])

    event.listen(engine, "before_cursor_execute", listen)
    try:
        store.put("ada", "facts", "k", {"n": 1})
        store.get("ada", "facts", "k")
        store.search("ada", "facts")
        store.put_many("ada", [("facts", "l", {})])
    finally:
        event.remove(engine, "before_cursor_execute", listen)

    heard = [word for word in heard if word in ("INSERT", "SELECT")]
    assert heard[-6:] == ["INSERT", "INSERT", "SELECT", "SELECT", "INSERT", "INSERT"]  # the user, then the memory
    assert store.get("ada", "facts", "k") == {"n": 1}


def test_echo_shows_every_statement(caplog: pytest.LogCaptureFixture) -> None:
    engine = connect("sqlite://")
    create_tables(engine)
    store = MemoryStore(engine)
    store.put("ada", "facts", "k", {})
    engine.echo = True

    with caplog.at_level(logging.INFO, logger="sqlalchemy.engine"):
        store.get("ada", "facts", "k")

    assert "SELECT memories.value" in caplog.text
    engine.dispose()


def test_an_interrupted_call_leaves_no_connection_in_the_middle_of_it(engine: Engine, store: MemoryStore) -> None:
    store.put("ada", "facts", "k", {"n": 1})
    statement = DirectStatement(engine, by_user)

    with pytest.raises(KeyboardInterrupt), statement._autocommitting():
        raise KeyboardInterrupt

    assert store.get("ada", "facts", "k") == {"n": 1}
    assert engine.pool.checkedout() == 0


def test_a_batch_ends_when_it_is_large_enough_to_be_sent() -> None:
    rows = [{"value": "x" * (BATCH_CHARACTERS // 4), "search_text": ""} for _ in range(10)]
    small = [{"value": "{}", "search_text": ""} for _ in range(2500)]

    assert [len(batch) for batch in batches(rows)] == [4, 4, 2]
    assert [len(batch) for batch in batches(small)] == [1000, 1000, 500]
    assert list(batches([])) == []


def test_times_of_many_rows_are_converted_one_by_one(engine: Engine) -> None:
    """Converters remember their last results; equal instants of different zones must not be mixed up."""
    create_tables(engine)
    moments = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=n) for n in range(50)]
    clock = iter(moments)
    store = MemoryStore(engine, now=lambda: next(clock, moments[-1]))
    with write_transaction(engine) as connection:
        connection.exec_driver_sql("INSERT INTO users (id, created_at, preferences) VALUES ('ada', '2026-01-01', '{}')")

    for number in range(50):
        store.put("ada", "facts", str(number), {})

    found = {item.key: item.updated_at for item in store.search("ada", "facts", limit=None)}
    assert [found[str(number)] for number in range(50)] == moments
