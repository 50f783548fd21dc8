"""A connection comes back from each kind of transaction as it was lent, and a single statement is one round trip."""

import logging
from collections.abc import Callable

import pytest
from sqlalchemy import Engine, event, text

from lib.database.engine import connect, create_tables
from lib.database.tables import Memory
from lib.database.transactions import autocommit_connection, read_transaction, write_transaction
from lib.store.memory_store import MemoryStore

BLOCKS = (autocommit_connection, write_transaction, read_transaction)


def undo_a_deletion(engine: Engine) -> None:
    """On a connection that was left in autocommit, the deletion would stay."""
    with pytest.raises(ZeroDivisionError), engine.begin() as connection:
        connection.execute(Memory.__table__.delete())
        1 / 0  # noqa: B018


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.__name__)
@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_a_connection_comes_back_as_it_was_lent(
    engine: Engine, store: MemoryStore, block: Callable, error: type[BaseException] | None
) -> None:
    store.put("ada", "facts", "k", {"n": 1})
    if error is None:
        with block(engine) as connection:
            connection.execute(text("SELECT 1"))
    else:
        with pytest.raises(error), block(engine):
            raise error

    undo_a_deletion(engine)

    assert store.get("ada", "facts", "k") == {"n": 1}
    assert engine.pool.checkedout() == 0


def test_a_connection_comes_back_as_it_was_lent_after_an_unknown_user(engine: Engine, store: MemoryStore) -> None:
    for number in range(20):  # each time the first statement fails
        store.put(f"user {number}", "facts", "k", {"n": 1})

    undo_a_deletion(engine)

    assert store.get("user 7", "facts", "k") == {"n": 1}


def test_who_listens_to_the_engine_hears_every_statement_and_each_call_is_one(
    engine: Engine, store: MemoryStore
) -> None:
    store.put("ada", "facts", "k", {})
    heard: list[str] = []

    def listen(connection: object, cursor: object, statement: str, *rest: object) -> None:
        heard.append(statement.split()[0])

    event.listen(engine, "before_cursor_execute", listen)
    try:
        store.put("ada", "facts", "k", {"n": 1})
        store.get("ada", "facts", "k")
        store.search("ada", "facts")
        store.delete("ada", "facts", "k")
    finally:
        event.remove(engine, "before_cursor_execute", listen)

    assert heard == ["INSERT", "SELECT", "SELECT", "DELETE"]


def test_echo_shows_every_statement(caplog: pytest.LogCaptureFixture) -> None:
    engine = connect("sqlite://")
    create_tables(engine)
    store = MemoryStore(engine)
    engine.echo = True

    with caplog.at_level(logging.INFO, logger="sqlalchemy.engine"):
        store.get("ada", "facts", "k")

    assert "SELECT memories.value" in caplog.text
    engine.dispose()


def test_a_statement_is_compiled_once_whoever_makes_a_store(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    MemoryStore(engine).put("ada", "facts", "k", {})
    engine.echo = True
    try:
        with caplog.at_level(logging.INFO, logger="sqlalchemy.engine"):
            MemoryStore(engine).put("ada", "facts", "l", {})
    finally:
        engine.echo = False

    assert "cached since" in caplog.text
    assert "generated in" not in caplog.text
