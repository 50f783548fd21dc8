"""A database to practise in: SQLite in memory, or a schema of its own on the reader's PostgreSQL."""

import atexit
import contextlib
import subprocess
import uuid

from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.exc import SQLAlchemyError

from lib.database import configured_url, is_pooled, parse_url
from lib.database.engine import connect, create_tables
from lib.errors import InvalidDatabaseURL, WorkbookError
from lib.workbook._helpers import start_helper

PREFIX = "workbook_"
MARK = "made by the Agent Memory Workbook; it may be dropped at any time"
FREE_WITHIN = "20s"  # after its owner's end, a schema's lock must be free: its connections may be busy for a while

_HOLD = "SELECT pg_advisory_lock_shared(hashtext('{}'))"
_MINE = text(
    "SELECT nspname FROM pg_namespace WHERE nspname LIKE :prefix AND obj_description(oid, 'pg_namespace') = :mark "
    "AND nspowner = (SELECT oid FROM pg_roles WHERE rolname = current_user)"
)
_MARKED = {"prefix": PREFIX.replace("_", r"\_") + "%", "mark": MARK}


def practice_engine(*, tables: bool = True) -> Engine:
    """An engine on an empty practice database, with the workbook's tables unless told otherwise.

    Without POSTGRES_URL it is SQLite in memory. With it, a new schema `workbook_…` on that server; nothing
    outside it is read or written. The schema is dropped when this process ends, whatever ends it; if the server
    can't be reached then, by the next one: each owner holds a lock, and a schema whose lock is free has none.
    """
    url = configured_url()
    on_sqlite = url is None or url.startswith("sqlite")
    engine = connect("sqlite://") if on_sqlite else _practice_schema(url)
    if tables:
        create_tables(engine)
    return engine


def drop_when_free(schema: str, url: str) -> None:
    """Drop a practice schema as soon as nobody holds it; if that, or the server, is too long in coming, do nothing."""
    with contextlib.suppress(WorkbookError, SQLAlchemyError):
        engine = connect(url, pool_size=1, max_overflow=0)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as keeper:
            keeper.execute(text("SELECT set_config('lock_timeout', :wait, false)"), {"wait": FREE_WITHIN})
            keeper.execute(text("SELECT pg_advisory_lock(hashtext(:schema))"), {"schema": schema})
            if schema in keeper.scalars(_MINE, _MARKED).all():
                keeper.execute(text(f"DROP SCHEMA {schema} CASCADE"))
        engine.dispose()


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
    keeper.execute(text(_HOLD.format(schema)))
    _drop_abandoned(keeper)
    keeper.execute(text(f"CREATE SCHEMA {schema}"))
    keeper.execute(text(f"COMMENT ON SCHEMA {schema} IS '{MARK}'"))
    watcher = _watch(schema, url)
    engine = connect(url)
    engine.dispose()

    @event.listens_for(engine, "connect")
    def use_schema(connection, record):
        autocommit, connection.autocommit = connection.autocommit, True
        connection.execute(f"SET search_path TO {schema}")
        connection.execute(_HOLD.format(schema))  # the keeper loses its lock when the server is restarted
        connection.autocommit = autocommit

    def drop() -> None:
        engine.dispose()
        keeper.invalidate()
        keeper_engine.dispose()
        drop_when_free(schema, url)
        with contextlib.suppress(OSError):
            watcher.stdin.close()  # it finds nothing to do, and ends; we needn't wait for it

    atexit.register(drop)
    return engine


def _watch(schema: str, url: str) -> subprocess.Popen:
    """The process that drops the schema after ours has ended."""
    watcher = start_helper("lib.workbook._practice_watcher")
    watcher.stdin.write(f"{schema} {url}\n")
    watcher.stdin.flush()
    return watcher


def _drop_abandoned(keeper: Connection) -> None:
    for schema in keeper.scalars(_MINE, _MARKED).all():
        lock = {"schema": schema}
        if keeper.scalar(text("SELECT pg_try_advisory_lock(hashtext(:schema))"), lock):
            keeper.execute(text(f'DROP SCHEMA IF EXISTS "{schema}" CASCADE'))
            keeper.execute(text("SELECT pg_advisory_unlock(hashtext(:schema))"), lock)
