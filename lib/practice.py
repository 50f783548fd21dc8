"""A database to practise in: SQLite in memory, or a schema of its own on the reader's PostgreSQL."""

import atexit
import contextlib
import uuid

from sqlalchemy import Engine, event, text
from sqlalchemy.exc import SQLAlchemyError

from lib.database import connect, create_tables
from lib.errors import InvalidDatabaseURL
from lib.poolers import is_pooled
from lib.urls import configured_url, parse_url

PREFIX = "workbook_"
MARK = "made by the Agent Memory Workbook; it may be dropped at any time"


def practice_engine(*, tables: bool = True) -> Engine:
    """An engine on an empty practice database, with the workbook's tables unless told otherwise.

    Without POSTGRES_URL it is SQLite in memory. With it, a new schema `workbook_…` on that server; nothing
    outside it is read or written. The schema is dropped when this process ends; those of processes that were
    killed are dropped by the next one: each owner holds a lock, and a schema whose lock is free has none.
    """
    url = configured_url()
    on_sqlite = url is None or url.startswith("sqlite")
    engine = connect("sqlite://") if on_sqlite else _practice_schema(url)
    if tables:
        create_tables(engine)
    return engine


def _practice_schema(url: str) -> Engine:
    if is_pooled(parse_url(url)):
        raise InvalidDatabaseURL(
            "POSTGRES_URL leads to a pooler that lends connections for one transaction, and the notebooks work in a "
            "schema of their own, which is set for a whole connection. Use the direct URL of the same database: the "
            "host without -pooler, or the one on port 5432."
        )
    keeper_engine = connect(url, pool_size=1, max_overflow=0)
    keeper = keeper_engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    schema = f"{PREFIX}{uuid.uuid4().hex[:12]}"
    keeper.execute(text("SELECT pg_advisory_lock(hashtext(:schema))"), {"schema": schema})
    _drop_abandoned(keeper)
    keeper.execute(text(f"CREATE SCHEMA {schema}"))
    keeper.execute(text(f"COMMENT ON SCHEMA {schema} IS '{MARK}'"))
    engine = connect(url)
    engine.dispose()

    @event.listens_for(engine, "connect")
    def use_schema(connection, record):
        autocommit, connection.autocommit = connection.autocommit, True
        connection.execute(f"SET search_path TO {schema}")
        connection.autocommit = autocommit

    def drop() -> None:
        engine.dispose()
        with contextlib.suppress(SQLAlchemyError):  # the server may have gone first, and the schema with it
            keeper.execute(text(f"DROP SCHEMA IF EXISTS {schema} CASCADE"))
        keeper.close()
        keeper_engine.dispose()

    atexit.register(drop)
    return engine


def _drop_abandoned(keeper) -> None:
    mine = text(
        "SELECT nspname FROM pg_namespace WHERE nspname LIKE :prefix AND obj_description(oid, 'pg_namespace') = :mark "
        "AND nspowner = (SELECT oid FROM pg_roles WHERE rolname = current_user)"
    )
    for schema in keeper.scalars(mine, {"prefix": PREFIX.replace("_", r"\_") + "%", "mark": MARK}).all():
        lock = {"schema": schema}
        if keeper.scalar(text("SELECT pg_try_advisory_lock(hashtext(:schema))"), lock):
            keeper.execute(text(f'DROP SCHEMA IF EXISTS "{schema}" CASCADE'))
            keeper.execute(text("SELECT pg_advisory_unlock(hashtext(:schema))"), lock)
