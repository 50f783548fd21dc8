"""Row-level security on PostgreSQL: even a query that forgot its condition sees the rows of one user."""

import re

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from lib.database import MISSING_RIGHT, TOKENS_VIEW, USER_SETTING, BoundUser, Lock, bound, bound_engine, wait_for
from lib.database.tables import USER_ID_LENGTH, Base
from lib.database.transactions import write_transaction
from lib.errors import InvalidInput, IsolationUnavailable, TablesMissing, shown
from lib.store.values import check_name

ROLE = "workbook_app"
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
_TABLES = """
    SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p') AND c.relname = ANY(:ours)
    ORDER BY c.relname
"""
_POLICIES = "SELECT policyname FROM pg_policies WHERE schemaname = current_schema() AND tablename = :table"


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
        for table in _tables(engine):
            # A transaction for each: who holds one table and waits for the next would meet writers who do it the other
            # way round. A table gets its policy and its rights together, so there is none that is open meanwhile.
            with write_transaction(engine) as connection:
                _lock(connection)
                _make_role(connection, role)
                _protect(connection, table, role)
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) != MISSING_RIGHT:
            raise
        raise IsolationUnavailable(
            f"{str(error.orig).strip()}. This takes the owner of the tables, with the right to make roles; or else "
            f'have an administrator run CREATE ROLE "{role}" NOLOGIN; GRANT "{role}" TO (the owner); and call it again.'
        ) from None


def disable_row_level_security(engine: Engine, *, role: str = ROLE) -> None:
    """Undo `enable_row_level_security`: policies and rights go, and the role if nothing else depends on it."""
    _check(engine, role)
    for table in _tables(engine):
        with write_transaction(engine) as connection:
            _lock(connection)
            if connection.execute(text(_ROLE), {"role": role}).first() is None:
                return
            connection.execute(text(f'REVOKE ALL ON {table} FROM "{role}"'))
            ours = [name for name in _policies(connection, table) if name in (role, f"{role}_shared")]
            for policy in ours:
                connection.execute(text(f'DROP POLICY "{policy}" ON {table}'))
            if ours and not _policies(connection, table):
                connection.execute(text(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY"))
                if table == "memory_index":
                    connection.execute(text(f"DROP VIEW {TOKENS_VIEW}"))
    with write_transaction(engine) as connection:
        _lock(connection)
        connection.execute(text(f'REVOKE ALL ON SCHEMA {_schema(connection)} FROM "{role}"'))
        try:
            with connection.begin_nested():
                connection.execute(text(f'DROP ROLE "{role}"'))
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) not in ("2BP01", MISSING_RIGHT):  # others need it, or own it
                raise


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


def _tables(engine: Engine) -> list[str]:
    """Our tables with rows of users."""
    ours = [
        table.name for table in Base.metadata.tables.values() if "user_id" in table.columns or table.name == "users"
    ]
    with write_transaction(engine) as connection:
        found = list(connection.scalars(text(_TABLES), {"ours": ours}))
    if missing := sorted(set(ours) - set(found)):
        raise TablesMissing(f"there is no table {missing[0]} in this schema. Call create_tables(engine) first.")
    return found


def _lock(connection: Connection) -> None:
    # IF NOT EXISTS alone still fails when two do it at the same moment.
    wait_for(connection, Lock.ROW_LEVEL_SECURITY)


def _schema(connection: Connection) -> str:
    return connection.scalar(text("SELECT quote_ident(current_schema())"))


def _policies(connection: Connection, table: str) -> list[str]:
    return list(connection.scalars(text(_POLICIES), {"table": table}))


def _make_role(connection: Connection, role: str) -> None:
    """Make the role where it is missing, and let the current user take it."""
    found = connection.execute(text(_ROLE), {"role": role}).first()
    if found is None:
        try:
            with connection.begin_nested():
                connection.execute(text(f'CREATE ROLE "{role}" NOLOGIN'))
        except DBAPIError as error:
            # Roles belong to the whole server, the lock to this database: in another one, somebody was faster.
            if getattr(error.orig, "sqlstate", None) not in ("42710", "23505"):
                raise
    elif found.sees_all or found.owns:
        raise InvalidInput(
            f"the role {role!r} would see every row: it is a superuser, has BYPASSRLS, or owns the tables. Give "
            "another name, and the role is made."
        )
    newer = (connection.dialect.server_version_info or ()) >= (16,)
    # From 16 on, who makes a role may administer it, but not take it: that is a right of its own.
    right, terms = ("SET", " WITH INHERIT FALSE, SET TRUE") if newer else ("MEMBER", "")
    if not connection.scalar(text("SELECT pg_has_role(session_user, :role, :right)"), {"role": role, "right": right}):
        connection.execute(text(f'GRANT "{role}" TO SESSION_USER{terms}'))


def _protect(connection: Connection, table: str, role: str) -> None:
    """Give one table its policies, and the role its rights on it."""
    there = _policies(connection, table)
    policies = {role: f'FOR ALL TO "{role}" USING ({_owner(table)} {OWN}) WITH CHECK ({_owner(table)} {OWN})'}
    if table == "content_cache":
        policies[f"{role}_shared"] = f'FOR SELECT TO "{role}" USING (user_id IS NULL)'
    rights = _RIGHTS.get(table, _ALL_RIGHTS)
    enabled = text("SELECT relrowsecurity FROM pg_class WHERE oid = CAST(:table AS regclass)")
    view = [f"CREATE OR REPLACE VIEW {_VIEW}", f'GRANT SELECT ON {TOKENS_VIEW} TO "{role}"']
    statements = [
        *(view if table == "memory_index" else []),
        *(f'CREATE POLICY "{name}" ON {table} {rule}' for name, rule in policies.items() if name not in there),
        *([] if connection.scalar(enabled, {"table": table}) else [f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY"]),
        f'GRANT {rights} ON {table} TO "{role}"',
        f'GRANT USAGE ON SCHEMA {_schema(connection)} TO "{role}"',
    ]
    for statement in statements:
        connection.execute(text(statement))


def _owner(table: str) -> str:
    return "id" if table == "users" else "user_id"
