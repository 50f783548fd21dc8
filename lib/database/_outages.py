"""A database that is away: how it is noticed, and what its caller is told."""

import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, InvalidatePoolError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry

from lib.database._urls import safe
from lib.database._user_binding import refused
from lib.errors import DatabaseUnavailable, InvalidDatabaseURL, TablesMissing

PING_AFTER_SECONDS = 5.0  # a connection that was idle for longer is asked whether it still lives
# What a PostgreSQL server says to whom it doesn't let in yet, or any more.
COMING_AND_GOING = ("starting up", "shutting down", "recovery mode", "not yet accepting connections")

# A prepared statement is there already, isn't there, or takes other parameters: it is on somebody else's connection.
# With as many parameters by chance, the other statement would be executed.
OTHERS_STATEMENTS = ("42P05", "26000", "08P01")


def notice_lost_connections(engine: Engine) -> None:
    """Have a PostgreSQL engine replace connections that were lost while nobody used them."""
    event.listen(engine, "checkin", lambda _, record: record.info.update(used=time.monotonic()))
    event.listen(engine, "checkout", partial(_ping_if_doubtful, engine))


def _ping_if_doubtful(engine: Engine, connection: Any, record: ConnectionPoolEntry, _: Any) -> None:
    """Ask a connection whether it still lives, if there is reason to doubt it; if not, the pool opens others.

    pool_pre_ping=True would ask every time, which takes as long as reading a memory. But a server that ends
    says so, and a network that ends silently is rare enough to be looked for only after a pause.
    """
    used = record.info.get("used")
    if used is None:
        # Opened just now. To doubt it as well would have SQLAlchemy give up, with an error that can't be told from
        # those of a wrong program, where a server or a pooler accepts connections and ends them at once.
        return
    if time.monotonic() - used > PING_AFTER_SECONDS or _has_something_to_say(connection.fileno()):
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            raise InvalidatePoolError(str(error)) from error


def _has_something_to_say(socket: int) -> bool:
    try:
        return bool(select.select([socket], [], [], 0)[0])
    except (OSError, ValueError):  # closed, or a number that select can't take
        return True


def why_unreachable(url: URL, error: Exception) -> str:
    """What to tell somebody who can't connect, without the password."""
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
    elif any(phrase in lower for phrase in COMING_AND_GOING):
        remedy = "The server is starting, recovering or shutting down: wait a few seconds and call again."
    else:
        remedy = "Is the server running, and are host and port right? `workbook check` tells more."
    return f"can't connect to {safe(url)}. {remedy} The server's side says: {cause}"


@contextmanager
def errors_translated(engine: Engine | Connection | None = None, parameters: Any = None) -> Iterator[None]:
    """SQLAlchemy's errors that a caller can do something about, as errors of the workbook.

    parameters: of the statement in the block, for the error's message, where SQLAlchemy isn't told of them.
    """
    try:
        yield
    except PoolTimeout as error:
        raise DatabaseUnavailable(
            f"every connection of this engine is in use: {error} Nothing was done; call again, or have fewer threads "
            "than pool_size + max_overflow of connect()."
        ) from None
    except DBAPIError as error:
        if refusal := refused(error, engine, parameters):
            raise refusal from None
        cause = str(error.orig).strip()
        if "no such table" in cause or getattr(error.orig, "sqlstate", None) == "42P01":
            raise TablesMissing(f"{cause.splitlines()[0]}. Call create_tables(engine) first.") from None
        if "_pg3_" in cause and error.orig.sqlstate in OTHERS_STATEMENTS:
            raise InvalidDatabaseURL(
                f"{cause}: this URL leads to a pooler that lends a connection for one transaction. Add ?pgbouncer=true "
                "to it (&pgbouncer=true behind other options), so that nothing is prepared on its connections."
            ) from None
        # A server that took another's place, or is about to lose its own, lets nobody write: that isn't the caller's
        # fault, though for PostgreSQL it is an internal error.
        read_only = getattr(error.orig, "sqlstate", None) == "25006"
        if error.connection_invalidated or read_only or isinstance(error, OperationalError):
            raise DatabaseUnavailable(
                f"the database could not finish this: {cause}. It happened whole or not at all; call again."
            ) from error
        raise
