"""A database to practise in: SQLite in memory, or a schema of its own on the reader's PostgreSQL."""

import atexit
import contextlib
import uuid
from typing import Any

from sqlalchemy import Engine, event, text
from sqlalchemy.exc import SQLAlchemyError

from lib.database import configured_url, is_pooled, parse_url
from lib.database.engine import connect, create_tables
from lib.errors import InvalidDatabaseURL, WorkbookError

PREFIX = "workbook_"
MARK = "made by the Agent Memory Workbook; it may be dropped at any time"
MAX_WAIT_SECONDS = 20  # at the end, for a transaction that somebody left open in the schema

_HOLD = "SELECT pg_advisory_lock_shared(hashtext('{}'))"
_MINE = text(
    "SELECT nspname FROM pg_namespace WHERE nspname LIKE :prefix AND obj_description(oid, 'pg_namespace') = :mark "
    "AND nspowner = (SELECT oid FROM pg_roles WHERE rolname = current_user)"
)
_MARKED = {"prefix": PREFIX.replace("_", r"\_") + "%", "mark": MARK}


def practice_engine(*, tables: bool = True) -> Engine:
    """An engine on an empty practice database, with the workbook's tables unless told otherwise.

    Without POSTGRES_URL it is SQLite in memory. With it, a new schema `workbook_…` on that server; nothing
    outside it is read or written. The schema is dropped when this process ends or, where it is killed, by the next
    one: each owner holds a lock, and a schema whose lock is free has none.
    """
    url = configured_url() or "sqlite://"
    engine = connect("sqlite://") if url.startswith("sqlite") else _practice_schema(url)
    if tables:
        create_tables(engine)
    return engine


def drop_abandoned_schemas(engine: Engine) -> None:
    """Drop the practice schemas that nobody holds any more, of this role on this server."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for schema in connection.scalars(_MINE, _MARKED).all():
            if connection.scalar(text("SELECT pg_try_advisory_lock(hashtext(:schema))"), {"schema": schema}):
                connection.execute(text(f'DROP SCHEMA IF EXISTS "{schema}" CASCADE'))
                connection.execute(text("SELECT pg_advisory_unlock(hashtext(:schema))"), {"schema": schema})


def _practice_schema(url: str) -> Engine:
    if is_pooled(parse_url(url)):
        raise InvalidDatabaseURL(
            "POSTGRES_URL leads to a pooler that lends connections for one transaction, and the notebooks work in a "
            "schema of their own, which is set for a whole connection. Use the direct URL of the same database: the "
            "host without -pooler, or the one on port 5432."
        )
    engine = connect(url)
    drop_abandoned_schemas(engine)
    schema = f"{PREFIX}{uuid.uuid4().hex[:12]}"
    keeper = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    keeper.execute(text(_HOLD.format(schema)))
    keeper.execute(text(f"CREATE SCHEMA {schema}"))
    keeper.execute(text(f"COMMENT ON SCHEMA {schema} IS '{MARK}'"))
    keeper.execute(text(f"SET lock_timeout = '{MAX_WAIT_SECONDS}s'"))
    keeper.detach()  # holds the lock until we end, and is none of the pool's, which are all in the schema
    engine.dispose()

    @event.listens_for(engine, "connect")
    def use_schema(connection: Any, record: object) -> None:
        autocommit, connection.autocommit = connection.autocommit, True
        connection.execute(f"SET search_path TO {schema}")
        connection.execute(_HOLD.format(schema))  # the keeper loses its lock when the server is restarted
        connection.autocommit = autocommit

    def drop() -> None:
        engine.dispose()
        with contextlib.suppress(WorkbookError, SQLAlchemyError):  # what can't be dropped now, the next one drops
            keeper.execute(text(f"DROP SCHEMA {schema} CASCADE"))
            keeper.close()

    atexit.register(drop)
    return engine
