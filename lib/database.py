"""From a URL to an engine: pools, SQLite's settings, tables, transactions, and the row they hold first."""

import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, Engine, Table, create_engine, event, text
from sqlalchemy import select as sql_select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import QueuePool
from sqlalchemy.schema import CreateColumn, CreateIndex, CreateTable

from lib.binding import bound
from lib.errors import DatabaseUnavailable, InvalidDatabaseURL
from lib.models import Base, User
from lib.outages import errors_translated, notice_lost_connections, why_unreachable
from lib.poolers import is_pooled, mark, without_mark
from lib.triggers import TRIGGERS
from lib.urls import FORMS, configured_url, parse_url, safe

BUSY_TIMEOUT_SECONDS = 30.0  # how long a writer waits for another one, on SQLite
CONNECT_TIMEOUT_SECONDS = 10  # how long we wait for a PostgreSQL server to answer
# Any number will do, as long as everybody who creates our tables asks for the same lock.
CREATE_TABLES_LOCK = 7_155_201


def connect(url: str | None = None, *, pool_size: int = 5, max_overflow: int = 10) -> Engine:
    """Open the database and return its engine; the connection is tried, so that errors come now.

    url: None takes POSTGRES_URL (from the environment or a .env file), else SQLite in memory. `?pgbouncer=true` says
        that a pooler lends connections for a transaction only; those of Neon and Supabase are known by their names.
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
        raise DatabaseUnavailable(why_unreachable(parsed, error)) from None
    return engine


def _pg_engine(url: URL, options: dict) -> Engine:
    arguments = {} if "connect_timeout" in url.query else {"connect_timeout": CONNECT_TIMEOUT_SECONDS}
    if is_pooled(url):
        arguments["prepare_threshold"] = None  # what is prepared on one connection would be looked for on another
    engine = create_engine(without_mark(url), connect_args=arguments, **options)
    if is_pooled(url):
        mark(engine)
    notice_lost_connections(engine)
    return engine


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
