"""An engine whose every transaction is one user's: how the database is told whose, and what its refusals mean."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DBAPIError

from lib.errors import InvalidInput, IsolationUnavailable, NotYourRows, WorkbookError

MISSING_RIGHT = "42501"  # PostgreSQL's code for it, and for a row that a policy refuses
MISSING_TABLE = "42P01"  # also where the role has no right to the schema
INVALID_VALUE = "22023"  # of a setting, such as a role that there isn't
USER_SETTING = "workbook.user_id"  # what the policies compare a row's user with
TOKENS_VIEW = "own_memory_tokens"  # rows of memory_index, of the user who is named: see lib.postgres.row_level_security
USER_OPTION = "workbook_user"  # among the execution options of an engine and of its connections
# All of it LOCAL: it ends with the transaction, so nothing stays on a pooled connection, nor on one that a pooler in
# front of the server lends to somebody else for the next transaction. The path as it was found, because "$user" in it
# would mean another schema once the role is another.
_BIND = f"""
    SELECT set_config('search_path', (
        SELECT string_agg(quote_ident(name), ', ') FROM unnest(current_schemas(false)) AS name
    ), true), set_config('{USER_SETTING}', %(user_id)s, true), set_config('role', %(role)s, true)
"""


@dataclass(frozen=True)
class BoundUser:
    """The user that an engine's transactions are bound to, and the role that the policies hold for."""

    user_id: str
    role: str


def bound(engine: Engine | Connection) -> BoundUser | None:
    """Whose rows alone this engine, or connection, sees; None: it isn't bound to anybody's."""
    return cast(BoundUser | None, engine.get_execution_options().get(USER_OPTION))


def may_join(engine: Engine | Connection, connection: Any) -> bool:
    """Whether what is done on `engine` may be a part of this open transaction: of that database, and that user."""
    same = isinstance(connection, Connection) and connection.dialect.name == engine.dialect.name
    return same and bound(engine) in (None, bound(connection))


def bound_engine(engine: Engine, user: BoundUser) -> Engine:
    """An engine on the same pool whose every transaction is that user's. See `lib.as_user`."""
    engine = engine.execution_options(**{USER_OPTION: user})
    event.listen(engine, "begin", _bind)
    event.listen(engine, "begin_twophase", _bind)
    event.listen(engine, "before_cursor_execute", _stay_bound, retval=True)
    return engine


def _bind(connection: Connection, *_: Any) -> None:
    user, driver_connection = connection.get_execution_options()[USER_OPTION], connection.connection.driver_connection
    if driver_connection is not None and driver_connection.autocommit:
        raise InvalidInput(
            f"this engine is bound to the user {user.user_id!r} for one transaction at a time, and in "
            "AUTOCOMMIT there is none that could be bound. Leave isolation_level alone, or use the engine that "
            "as_user was given."
        )
    try:
        connection.exec_driver_sql(_BIND, vars(user))
    except DBAPIError as error:
        if refusal := refused(error, connection):
            raise refusal from None
        raise


def _stay_bound(connection: Connection, cursor: Any, statement: str, parameters: Any, *_: Any) -> tuple[str, Any]:
    """Refuse a statement when SQL's own COMMIT has ended the transaction that was bound: it would see everything."""
    from psycopg.pq import TransactionStatus

    if statement != _BIND and cursor.connection.info.transaction_status == TransactionStatus.IDLE:
        user = connection.get_execution_options()[USER_OPTION]
        raise InvalidInput(
            f"a COMMIT or ROLLBACK in SQL has ended the transaction of the user {user.user_id!r}. "
            "Write connection.commit() or connection.rollback() instead: then the next one is bound, too."
        )
    return statement, parameters


def refused(error: DBAPIError, engine: Engine | Connection) -> WorkbookError | None:
    """What the database's refusal of a bound user's statement means; None if it is another error."""
    user, cause = bound(engine), cast(Any, error.orig)
    state = getattr(cause, "sqlstate", None)
    no_role = state == INVALID_VALUE and user and user.role in str(cause)
    if user is None or not (no_role or state in (MISSING_RIGHT, MISSING_TABLE)):
        return None
    # A right that is missing and a row that a policy refuses have one code. Texts may be in any language; this not.
    if cause.diag.source_function == "ExecWithCheckOptions":
        return NotYourRows(
            f"this engine is bound to the user {user.user_id!r}, and a row of "
            f"{_whose(error.params, user)} was to be written; nothing was. Use as_user(engine, user_id) "
            "with the user whose row it is or, in a worker that serves all users, the engine that as_user was given."
        )
    return IsolationUnavailable(
        f"{str(cause).strip()}. Have the owner of the tables call enable_row_level_security(engine); after tables "
        "were added, once more."
    )


def _whose(parameters: Any, user: BoundUser) -> str:
    first = parameters[0] if isinstance(parameters, list | tuple) and parameters else parameters
    given = first if isinstance(first, Mapping) else {}
    user_id = given.get("user_id", given.get("id"))  # a row of `users` has its user there
    # It may name ours where a row of theirs is in the way: one with the id of a conversation that was handed in.
    return "another user" if user_id in (None, user.user_id) else repr(user_id)
