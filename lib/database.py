"""From a URL to an engine: pools, SQLite's settings, tables, transactions, and the row they hold first."""

import select
import sqlite3
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Table, create_engine, event, text
from sqlalchemy import select as sql_select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DBAPIError, InvalidatePoolError, OperationalError, ProgrammingError
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool
from sqlalchemy.schema import CreateColumn, CreateIndex, CreateTable

from lib.binding import bound, refused
from lib.errors import DatabaseUnavailable, InvalidDatabaseURL, TablesMissing
from lib.models import Base, User
from lib.triggers import TRIGGERS
from lib.urls import FORMS, configured_url, parse_url, safe

BUSY_TIMEOUT_SECONDS = 30.0  # how long a writer waits for another one, on SQLite
PING_AFTER_SECONDS = 5.0  # a connection that was idle for longer is asked whether it still lives
CONNECT_TIMEOUT_SECONDS = 10  # how long we wait for a PostgreSQL server to answer
# Any number will do, as long as everybody who creates our tables asks for the same lock.
CREATE_TABLES_LOCK = 7_155_201


def connect(url: str | None = None, *, pool_size: int = 5, max_overflow: int = 10) -> Engine:
    """Open the database and return its engine; the connection is tried, so that errors come now.

    url: None takes POSTGRES_URL (from the environment or a .env file), else SQLite in memory.
    pool_size, max_overflow: connections kept open, and further ones under load.
    Errors: InvalidDatabaseURL, DatabaseUnavailable; neither shows the password.

    >>> connect("sqlite://").dialect.name
    'sqlite'
    """
    parsed = parse_url(url if url is not None else configured_url() or "sqlite://")
    options = {"pool_size": pool_size, "max_overflow": max_overflow}
    try:
        engine = _sqlite_engine(parsed, options) if parsed.drivername == "sqlite" else _pg_engine(parsed, options)
    except ArgumentError as error:
        raise InvalidDatabaseURL(f"an option of {safe(parsed)} can't be used: {error}. {FORMS}") from None
    try:
        with engine.connect():
            pass
    except (DBAPIError, sqlite3.Error, OSError) as error:
        engine.dispose()
        raise DatabaseUnavailable(_why_unreachable(parsed, error)) from None
    return engine


def _pg_engine(url: URL, options: dict) -> Engine:
    timeout = {} if "connect_timeout" in url.query else {"connect_timeout": CONNECT_TIMEOUT_SECONDS}
    engine = create_engine(url, connect_args=timeout, **options)
    event.listen(engine, "checkin", lambda _, record: record.info.update(used=time.monotonic()))
    event.listen(engine, "checkout", partial(_ping_if_doubtful, engine))
    return engine


def _ping_if_doubtful(engine: Engine, connection: Any, record: ConnectionPoolEntry, _: Any) -> None:
    """Ask a connection whether it still lives, if there is reason to doubt it; if not, the pool opens others.

    pool_pre_ping=True would ask every time, which takes as long as reading a memory. But a server that ends
    says so, and a network that ends silently is rare enough to be looked for only after a pause.
    """
    paused = time.monotonic() - record.info.get("used", 0) > PING_AFTER_SECONDS
    if paused or _has_something_to_say(connection.fileno()):
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            raise InvalidatePoolError(str(error)) from error


def _has_something_to_say(socket: int) -> bool:
    try:
        return bool(select.select([socket], [], [], 0)[0])
    except (OSError, ValueError):  # closed, or a number that select can't take
        return True


def _sqlite_engine(url: URL, options: dict) -> Engine:
    in_memory = url.database in (None, "", ":memory:")
    address = Path(url.database or ".").absolute().as_uri()
    if in_memory:
        # Each connection to ":memory:" is a database of its own, so a second thread would find no tables.
        # The memdb VFS shares one among all connections of this process, and locks it like a file.
        # (A StaticPool would share one *connection*: then two threads mix their transactions.)
        address = f"file:/workbook-{uuid.uuid4()}?vfs=memdb"

    def open_connection() -> sqlite3.Connection:
        connection = sqlite3.connect(
            address, uri=True, timeout=BUSY_TIMEOUT_SECONDS, check_same_thread=False, cached_statements=256
        )
        connection.execute("PRAGMA foreign_keys = ON")
        if not in_memory:
            connection.execute("PRAGMA journal_mode = WAL")  # readers and a writer don't wait for each other
            connection.execute("PRAGMA synchronous = FULL")  # an acknowledged write survives a power cut
        return connection

    if in_memory:
        anchor = open_connection()  # the database lives for as long as one connection to it is open
        engine = create_engine("sqlite://", creator=open_connection, poolclass=QueuePool, **options)
        event.listen(engine, "engine_disposed", lambda _: anchor.close())
        return engine
    return create_engine(url, creator=open_connection, poolclass=QueuePool, **options)


def _why_unreachable(url: URL, error: Exception) -> str:
    cause = str(getattr(error, "orig", None) or error).strip()
    cause = cause.replace(str(url.password), "***") if url.password else cause
    if url.drivername == "sqlite":
        folder = Path(url.database).absolute().parent
        if not folder.is_dir():
            return f"can't open {safe(url)}: the folder {folder} does not exist. Create it first."
        return f"can't open {safe(url)}: {cause}. Is it an SQLite file, in a folder that you may write to?"
    lower = cause.lower()
    if "password" in lower or "authentication" in lower:
        remedy = "Check the user name and the password in the URL."
    elif "does not exist" in lower:
        remedy = "Create it first, or correct the name at the end of the URL."
    else:
        remedy = "Is the server running, and are host and port right? `workbook check` tells more."
    return f"can't connect to {safe(url)}. {remedy} The server's side says: {cause}"


def create_tables(engine: Engine) -> None:
    """Create the workbook's tables, columns, indexes and triggers where they are missing.

    Safe to call twice, from two places at once, and on a database that an older workbook made.
    """
    with write_transaction(engine) as connection:
        if engine.dialect.name == "postgresql":
            # IF NOT EXISTS alone still fails when two do it at the same moment.
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": CREATE_TABLES_LOCK})
        for table in Base.metadata.sorted_tables:
            connection.execute(CreateTable(table, if_not_exists=True))
            _add_missing_columns(connection, table)
            for index in sorted(table.indexes, key=lambda index: index.name):
                connection.execute(CreateIndex(index, if_not_exists=True))
        for trigger in TRIGGERS[engine.dialect.name]:
            connection.exec_driver_sql(trigger)


def _add_missing_columns(connection: Connection, table: Table) -> None:
    present = connection.execute(text(f"SELECT * FROM {table.name} LIMIT 0")).keys()
    for column in table.columns:
        if column.name not in present:
            definition = CreateColumn(column).compile(dialect=connection.dialect)
            connection.execute(text(f"ALTER TABLE {table.name} ADD COLUMN {definition}"))


@contextmanager
def statement(engine: Engine | Connection) -> Iterator[Connection]:
    """A connection on which each statement is its own transaction; given back at the end of the block.

    Given a connection instead of an engine, it is that one, and its transaction goes on. On an engine of `as_user`
    the block is one transaction.
    """
    if isinstance(engine, Connection):
        with errors_translated(engine):
            yield engine
        return
    if bound(engine):  # the user is named at the beginning of a transaction, and for no longer than that
        with write_transaction(engine) as connection:
            yield connection
        return
    with errors_translated(), engine.connect() as connection:
        yield connection.execution_options(isolation_level="AUTOCOMMIT")


@contextmanager
def write_transaction(engine: Engine | Connection) -> Iterator[Connection]:
    """One transaction for the block: all of it is stored, or, after an error, nothing.

    Given a connection, the block is a part of that one's transaction, and its owner decides.
    """
    if isinstance(engine, Connection):
        with statement(engine) as connection:
            yield connection
        return
    if engine.dialect.name != "sqlite":
        with errors_translated(engine), engine.begin() as connection:
            yield connection
        return
    with statement(engine) as connection:
        # IMMEDIATE takes the write lock now, and waits for it. A transaction that reads first and asks for
        # the lock later gets "database is locked" at once when another writer was faster.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        try:
            yield connection
        except BaseException:
            if connection.connection.dbapi_connection.in_transaction:  # a full disk has rolled back already
                connection.exec_driver_sql("ROLLBACK")
            raise
        connection.exec_driver_sql("COMMIT")


@contextmanager
def read_transaction(engine: Engine | Connection) -> Iterator[Connection]:
    """One transaction for the block that only reads: all of it sees one state of the database."""
    if isinstance(engine, Engine) and engine.dialect.name != "sqlite":
        engine = engine.execution_options(isolation_level="REPEATABLE READ")
    if isinstance(engine, Connection) or engine.dialect.name != "sqlite":
        with write_transaction(engine) as connection:
            yield connection
        return
    with statement(engine) as connection:
        connection.exec_driver_sql("BEGIN")
        try:
            yield connection
        finally:
            if connection.connection.dbapi_connection.in_transaction:
                connection.exec_driver_sql("ROLLBACK")


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
    held = sql_select(User.id).where(User.id == user_id).with_for_update(key_share=not to_delete)
    return connection.execute(held).first() is not None


@contextmanager
def errors_translated(engine: Engine | Connection | None = None, parameters: Any = None) -> Iterator[None]:
    """SQLAlchemy's errors that a caller can do something about, as errors of the workbook.

    parameters: of the statement in the block, for the error's message, where SQLAlchemy isn't told of them.
    """
    try:
        yield
    except (OperationalError, ProgrammingError, DBAPIError) as error:
        if refusal := refused(error, engine, parameters):
            raise refusal from None
        cause = str(error.orig).strip()
        if "no such table" in cause or getattr(error.orig, "sqlstate", None) == "42P01":
            raise TablesMissing(f"{cause.splitlines()[0]}. Call create_tables(engine) first.") from None
        if error.connection_invalidated or isinstance(error, OperationalError):
            raise DatabaseUnavailable(
                f"the database could not finish this: {cause}. It happened whole or not at all; call again."
            ) from error
        raise
