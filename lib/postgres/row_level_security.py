"""Row-level security on PostgreSQL: even a query that forgot its condition sees the rows of one user."""

import re
from contextlib import suppress

from psycopg.errors import InsufficientPrivilege
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError, InternalError, ProgrammingError

from lib.database import TOKENS_VIEW, USER_SETTING, BoundUser, Lock, bound, bound_engine, wait_for
from lib.database.tables import USER_ID_LENGTH, Base
from lib.database.transactions import write_transaction
from lib.errors import InvalidInput, IsolationUnavailable, shown
from lib.store.values import check_name

ROLE = "workbook_app"
_TABLES = sorted(name for name, table in Base.metadata.tables.items() if name == "users" or "user_id" in table.columns)
OWN = f"= current_setting('{USER_SETTING}', true)"  # NULL or empty where nobody is bound: no row then

# What requests need; more than that of none. To lock rows is an UPDATE, too.
_RIGHTS = {
    "memory_versions": "SELECT, INSERT, DELETE",
    "archived_memories": "SELECT, INSERT, DELETE",
}
_ALL_RIGHTS = "SELECT, INSERT, UPDATE, DELETE"

# Seen with the owner's rights, and so with the index on tokens: see lib.retrieval. Its own condition does what the
# policy does. Who writes SQL may find out how PostgreSQL comes to it, but no more than numbers and hashes are in it.
_VIEW = f"{TOKENS_VIEW} AS SELECT id, user_id, tokens FROM memory_index WHERE user_id {OWN}"

_ROLE = """
    SELECT r.rolsuper OR r.rolbypassrls AS sees_all, EXISTS (
        SELECT FROM pg_class c WHERE c.relnamespace = current_schema()::regnamespace AND c.relname = 'memories'
        AND pg_has_role(r.oid, c.relowner, 'USAGE')
    ) AS owns
    FROM pg_roles r WHERE r.rolname = :role
"""
_POLICIES = "SELECT count(*) FROM pg_policies WHERE schemaname = current_schema() AND tablename = :table"


def as_user(engine: Engine, user_id: str, *, role: str = ROLE) -> Engine:
    """An engine on the same pool that sees and writes the rows of one user, whatever its queries say.

    For a request: `MemoryStore(as_user(engine, "ada"))`, or SQL of your own on `as_user(engine, "ada").connect()`.
    It costs little, so make one for each request. `enable_row_level_security` comes first, once.
    A call with another user's id finds nothing, and raises NotYourRows where it would write.

    Each transaction begins by naming the user and taking the role, for itself alone: nothing of it stays on a
    connection. AUTOCOMMIT is refused, because it has no transactions.
    It guards against conditions that somebody forgot, not against somebody who may write SQL: `RESET ROLE` and
    `set_config` are SQL, and `raw_connection()` is the driver's own. If requests log in as a role that owns no table
    and has nothing but `GRANT workbook_app TO …`, RESET ROLE gains nothing, either.
    Errors: InvalidInput; IsolationUnavailable on SQLite and, at the first statement, where nothing was enabled.
    """
    check_name(user_id, "user_id", USER_ID_LENGTH)
    _check(engine, role)
    return bound_engine(engine, BoundUser(user_id, role))


def enable_row_level_security(engine: Engine, *, role: str = ROLE) -> None:
    """Have PostgreSQL show the role `role`, which `as_user` takes, the rows of the user who is named, and no others.

    Makes the role where it is missing, lets the current user take it, gives it the rights that requests need, and a
    policy on every table with rows of users. Shared contents of the cache (without a user) it may read, not write:
    else one user's request could put words into the answers of all.
    Safe to call twice and by two at once. Call it again when tables were added by `create_tables` of a newer version:
    until then the role has no rights on them.

    The owner of the tables is not bound: workers, which serve all users, run as the owner. A third role, such as one
    for reports, sees no rows any more until it gets a policy of its own.
    Each table is locked for an instant, and waits for transactions that are using it.
    Errors: InvalidInput for a role that sees every row; IsolationUnavailable on SQLite, or without the rights for it.
    """
    _check(engine, role)
    try:
        for table in _TABLES:
            # A transaction for each: who holds one table and waits for the next would meet writers who do it the other
            # way round. A table gets its policy and its rights together, so there is none that is open meanwhile.
            with write_transaction(engine) as connection:
                wait_for(connection, Lock.ROW_LEVEL_SECURITY)
                _make_role(connection, role)
                _protect(connection, table, role)
    except DBAPIError as error:
        if not isinstance(error.orig, InsufficientPrivilege):
            raise
        raise IsolationUnavailable(
            f"{str(error.orig).strip()}. This takes the owner of the tables, with the right to make roles; or else "
            f'have an administrator run CREATE ROLE "{role}" NOLOGIN; GRANT "{role}" TO (the owner); and call it again.'
        ) from None


def disable_row_level_security(engine: Engine, *, role: str = ROLE) -> None:
    """Undo `enable_row_level_security`: policies and rights go, and the role if nothing else depends on it."""
    _check(engine, role)
    for name in _TABLES:
        with write_transaction(engine) as connection:
            wait_for(connection, Lock.ROW_LEVEL_SECURITY)
            if connection.execute(text(_ROLE), {"role": role}).first() is None:
                return
            schema = _schema(connection)
            connection.execute(text(f'REVOKE ALL ON {schema}.{name} FROM "{role}"'))
            connection.execute(text(f'REVOKE ALL ON SCHEMA {schema} FROM "{role}"'))
            for policy in (role, f"{role}_shared"):
                connection.execute(text(f'DROP POLICY IF EXISTS "{policy}" ON {schema}.{name}'))
            if connection.scalar(text(_POLICIES), {"table": name}) == 0:  # else it is secured for another role, too
                connection.execute(text(f"ALTER TABLE {schema}.{name} DISABLE ROW LEVEL SECURITY"))
                if name == "memory_index":
                    connection.execute(text(f"DROP VIEW IF EXISTS {TOKENS_VIEW}"))
    with suppress(ProgrammingError, InternalError), write_transaction(engine) as connection:
        connection.execute(text(f'DROP ROLE "{role}"'))  # it stays where others need it, or it isn't ours to drop


def _check(engine: Engine, role: str) -> None:
    if engine.dialect.name != "postgresql":
        raise IsolationUnavailable(
            f"{engine.dialect.name} has no row-level security. Use PostgreSQL, as by POSTGRES_URL; or give each user "
            "an SQLite file of their own."
        )
    if user := bound(engine):
        raise InvalidInput(f"this engine is bound to {user.user_id!r} already. Give the one it was made from.")
    if not isinstance(role, str) or not re.fullmatch(r"(?!pg_|public$|none$)[a-z_][a-z0-9_]{0,49}", role):
        raise InvalidInput(
            f"a role is named by up to 50 of a-z, 0-9 and _, and not public, none or pg_…; this is {shown(role)}."
        )


def _schema(connection: Connection) -> str:
    return connection.scalar(text("SELECT quote_ident(current_schema())"))


def _make_role(connection: Connection, role: str) -> None:
    """Make the role where it is missing, and let the current user take it."""
    there = connection.execute(text(_ROLE), {"role": role}).first()
    if there is None:
        connection.execute(text(f'CREATE ROLE "{role}" NOLOGIN'))
    elif there.sees_all or there.owns:
        raise InvalidInput(
            f"the role {role!r} would see every row: it is a superuser, has BYPASSRLS, or owns the tables. Give "
            "another name, and the role is made."
        )
    newer = (connection.dialect.server_version_info or (0,)) >= (16,)
    # From 16 on, who makes a role may administer it, but not take it: that is a right of its own.
    right, terms = ("SET", " WITH INHERIT FALSE, SET TRUE") if newer else ("MEMBER", "")
    if not connection.scalar(text("SELECT pg_has_role(session_user, :role, :right)"), {"role": role, "right": right}):
        connection.execute(text(f'GRANT "{role}" TO SESSION_USER{terms}'))


def _protect(connection: Connection, name: str, role: str) -> None:
    """Give one table its policies, and the role its rights on it."""
    schema, owner = _schema(connection), "id" if name == "users" else "user_id"
    table, rights = f"{schema}.{name}", _RIGHTS.get(name, _ALL_RIGHTS)
    policies = {role: f'FOR ALL TO "{role}" USING ({owner} {OWN}) WITH CHECK ({owner} {OWN})'}
    if name == "content_cache":
        policies[f"{role}_shared"] = f'FOR SELECT TO "{role}" USING (user_id IS NULL)'
    view = [f"CREATE OR REPLACE VIEW {_VIEW}", f'GRANT SELECT ON {TOKENS_VIEW} TO "{role}"']
    statements = [
        *(f'DROP POLICY IF EXISTS "{policy}" ON {table}' for policy in policies),
        *(f'CREATE POLICY "{policy}" ON {table} {rule}' for policy, rule in policies.items()),
        f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
        f'GRANT {rights} ON {table} TO "{role}"',
        f'GRANT USAGE ON SCHEMA {schema} TO "{role}"',
        *(view if name == "memory_index" else []),
    ]
    for statement in statements:
        connection.execute(text(statement))
