"""From a URL to an engine: pools, SQLite's settings, and making the tables."""

import sqlite3
import uuid
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Table, create_engine, event, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import QueuePool
from sqlalchemy.schema import CreateColumn, CreateIndex, CreateTable

from lib.database._locks import Lock, wait_for
from lib.database._outages import why_unreachable
from lib.database._poolers import is_pooled, mark, without_mark
from lib.database._triggers import TRIGGERS
from lib.database._urls import FORMS, configured_url, parse_url, safe
from lib.database.tables import Base
from lib.database.transactions import replace_if_closed, write_transaction
from lib.errors import DatabaseUnavailable, InvalidDatabaseURL

BUSY_TIMEOUT_SECONDS = 30.0  # how long a writer waits for another one, on SQLite
CONNECT_TIMEOUT_SECONDS = 10  # how long we wait for a PostgreSQL server to answer


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
    options = {"pool_size": pool_size, "max_overflow": max_overflow, "skip_autocommit_rollback": True}
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


def _pg_engine(url: URL, options: dict[str, Any]) -> Engine:
    arguments: dict[str, Any] = {} if "connect_timeout" in url.query else {"connect_timeout": CONNECT_TIMEOUT_SECONDS}
    if is_pooled(url):
        arguments["prepare_threshold"] = None  # what is prepared on one connection would be looked for on another
    engine = create_engine(without_mark(url), connect_args=arguments, **options)
    if is_pooled(url):
        mark(engine)
    event.listen(engine, "checkout", replace_if_closed)
    return engine


def _sqlite_engine(url: URL, options: dict[str, Any]) -> Engine:
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
            wait_for(connection, Lock.CREATE_TABLES)
        for table in Base.metadata.sorted_tables:
            connection.execute(CreateTable(table, if_not_exists=True))
            _add_missing_columns(connection, table)
            for index in sorted(table.indexes, key=lambda index: str(index.name)):
                connection.execute(CreateIndex(index, if_not_exists=True))
        for trigger in TRIGGERS[engine.dialect.name]:
            connection.exec_driver_sql(trigger)


def _add_missing_columns(connection: Connection, table: Table) -> None:
    present = connection.execute(text(f"SELECT * FROM {table.name} LIMIT 0")).keys()
    for column in table.columns:
        if column.name not in present:
            definition = CreateColumn(column).compile(dialect=connection.dialect)
            connection.execute(text(f"ALTER TABLE {table.name} ADD COLUMN {definition}"))
