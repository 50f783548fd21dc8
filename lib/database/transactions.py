"""Transactions: one statement, a block that writes, a block that only reads, and the user's row that is held first."""

import select as sockets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, IntegrityError, InvalidatePoolError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry

from lib.database._outages import translated
from lib.database._user_binding import USER_OPTION
from lib.database.tables import User
from lib.errors import DatabaseUnavailable


@contextmanager
def autocommit_connection(engine: Engine | Connection) -> Iterator[Connection]:
    """A connection on which each statement is its own transaction; given back at the end of the block.

    Given a connection instead of an engine, it is that one, and its transaction goes on. On an engine of `as_user`
    the block is one transaction.
    """
    if isinstance(engine, Connection):
        with errors_translated(engine):
            yield engine
        return
    if USER_OPTION in engine.get_execution_options():  # the user is named when a transaction begins
        with write_transaction(engine) as connection:
            yield connection
        return
    with errors_translated(engine), engine.connect() as connection:
        yield connection.execution_options(isolation_level="AUTOCOMMIT")


@contextmanager
def write_transaction(engine: Engine | Connection) -> Iterator[Connection]:
    """One transaction for the block: all of it is stored, or, after an error, nothing.

    Given a connection, the block is a part of that one's transaction, and its owner decides.
    """
    if isinstance(engine, Connection):
        with autocommit_connection(engine) as connection:
            yield connection
        return
    if engine.dialect.name != "sqlite":
        with errors_translated(engine), engine.begin() as connection:
            yield connection
        return
    # IMMEDIATE takes the write lock now, and waits for it. A transaction that reads first and asks for
    # the lock later gets "database is locked" at once when another writer was faster.
    with _sqlite_transaction(engine, "BEGIN IMMEDIATE") as connection:
        yield connection


@contextmanager
def read_transaction(engine: Engine | Connection) -> Iterator[Connection]:
    """One transaction for the block that only reads: all of it sees one state of the database."""
    if isinstance(engine, Engine) and engine.dialect.name == "sqlite":
        with _sqlite_transaction(engine, "BEGIN") as connection:
            yield connection
        return
    if isinstance(engine, Engine):
        engine = engine.execution_options(isolation_level="REPEATABLE READ")
    with write_transaction(engine) as connection:
        yield connection


@contextmanager
def _sqlite_transaction(engine: Engine, begin: str) -> Iterator[Connection]:
    with autocommit_connection(engine) as connection:
        connection.exec_driver_sql(begin)
        try:
            yield connection
        except BaseException:
            driver_connection = connection.connection.driver_connection
            if driver_connection and driver_connection.in_transaction:  # a full disk has rolled back already
                connection.exec_driver_sql("ROLLBACK")
            raise
        connection.exec_driver_sql("COMMIT")


@contextmanager
def errors_translated(engine: Engine | Connection) -> Iterator[None]:
    """SQLAlchemy's errors that a caller can do something about, as errors of the workbook."""
    try:
        yield
    except IntegrityError:  # of the data, not of the database: its caller knows what it means
        raise
    except (PoolTimeout, DBAPIError) as error:
        known = translated(error, engine)
        if known is None:
            raise
        raise known from (error if isinstance(known, DatabaseUnavailable) else None)


def replace_if_closed(connection: Any, record: ConnectionPoolEntry, _: object) -> None:
    """Have the pool open new connections, if the server has closed this one while nobody used it. For "checkout".

    pool_pre_ping=True asks the server each time, which makes reading one memory half as long again. But a server
    that ends says so, and a connection that has something to say without being asked is of no use.
    """
    # Not one that was opened just now: SQLAlchemy would give up, with an error that can't be told from those of a
    # wrong program, where a server or a pooler accepts connections and ends them at once.
    if record.info.get("was_used") and _has_something_to_say(connection.fileno()):
        raise InvalidatePoolError("the server has closed this connection")
    record.info["was_used"] = True


def _has_something_to_say(socket: int) -> bool:
    try:
        return bool(sockets.select([socket], [], [], 0)[0])
    except (OSError, ValueError):  # closed, or a number that select can't take
        return True


def add_user(connection: Connection, user_id: str, now: datetime) -> None:
    """Add the user if they aren't there; in both cases, hold their row until the transaction ends."""
    insert = (postgresql if connection.dialect.name == "postgresql" else sqlite).insert
    new_user = insert(User).values(id=user_id, created_at=now, preferences={})
    # Not DO NOTHING: that wouldn't hold a user who is there, and somebody might forget them before we end.
    connection.execute(new_user.on_conflict_do_update(index_elements=["id"], set_={"created_at": User.created_at}))


def hold_user(connection: Connection, user_id: str, *, to_delete: bool = False) -> bool:
    """Have others who write many rows of this user wait for us; False if there is no such user.

    Who writes many rows holds the user's row first, then those of sessions, then those of memories. Without that, two
    of them take the rows in different orders, each waits for a row that the other has, and the database ends one with
    "deadlock detected".

    to_delete: nobody may add a row of theirs meanwhile, either. Only for who deletes the user: a put of a new memory
        would wait for us with its row written already, and if we came to write that address, we for it.
    """
    # SQLite has no row locks, needs none. key_share: a new row that refers to the user needn't wait.
    held = select(User.id).where(User.id == user_id).with_for_update(key_share=not to_delete)
    return connection.execute(held).first() is not None
