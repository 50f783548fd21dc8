"""A database that is away: how it is noticed, and what its caller is told."""

from pathlib import Path

from sqlalchemy import Connection, Engine
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from lib.database._urls import safe
from lib.database._user_binding import MISSING_TABLE, refused
from lib.errors import DatabaseUnavailable, InvalidDatabaseURL, TablesMissing, WorkbookError

# What a PostgreSQL server says to whom it doesn't let in yet, or any more.
COMING_AND_GOING = ("starting up", "shutting down", "recovery mode", "not yet accepting connections")

READ_ONLY = "25006"  # PostgreSQL's code for a write where nobody may write
# A prepared statement is there already, isn't there, or takes other parameters: it is on somebody else's connection.
# With as many parameters by chance, the other statement would be executed.
OTHERS_STATEMENTS = ("42P05", "26000", "08P01")


def why_unreachable(url: URL, error: Exception) -> str:
    """What to tell somebody who can't connect, without the password."""
    cause = str(getattr(error, "orig", None) or error).strip()
    cause = cause.replace(str(url.password), "***") if url.password else cause
    if url.drivername == "sqlite":
        folder = Path(url.database or ".").absolute().parent
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


def translated(error: DBAPIError | PoolTimeout, engine: Engine | Connection) -> WorkbookError | None:
    """Return an error of SQLAlchemy as one of the workbook; None if its caller can't do anything about it."""
    if isinstance(error, PoolTimeout):
        return DatabaseUnavailable(
            f"every connection of this engine is in use: {error} Nothing was done; call again, or have fewer threads "
            "than pool_size + max_overflow of connect()."
        )
    if refusal := refused(error, engine):
        return refusal
    cause, code = str(error.orig).strip(), getattr(error.orig, "sqlstate", None)
    if "no such table" in cause or code == MISSING_TABLE:
        return TablesMissing(f"{cause.splitlines()[0]}. Call create_tables(engine) first.")
    if "_pg3_" in cause and code in OTHERS_STATEMENTS:
        return InvalidDatabaseURL(
            f"{cause}: this URL leads to a pooler that lends a connection for one transaction. Add ?pgbouncer=true "
            "to it (&pgbouncer=true behind other options), so that nothing is prepared on its connections."
        )
    # A server that took another's place, or is about to lose its own, lets nobody write: that isn't the caller's
    # fault, though for PostgreSQL it is an internal error.
    if error.connection_invalidated or code == READ_ONLY or isinstance(error, OperationalError):
        return DatabaseUnavailable(
            f"the database could not finish this: {cause}. It happened whole or not at all; call again."
        )
    return None
