"""The tables in which Procrastinate keeps jobs: making them, forgetting a user in them, finding them from elsewhere."""

from sqlalchemy import Connection, Engine, text

from lib.database._locks import Lock, wait_for
from lib.database._poolers import MARK, is_marked
from lib.database.transactions import autocommit_connection, write_transaction
from lib.errors import InvalidInput, TablesMissing

QUEUE = "workbook"  # ours: jobs of others who share the tables are never read, run or deleted
# Without it, forgetting a user would read all jobs that wait.
_INDEX = (
    "CREATE INDEX IF NOT EXISTS workbook_jobs_of_user ON procrastinate_jobs ((args ->> 'user_id')) "
    f"WHERE queue_name = '{QUEUE}'"
)
_OF_USER = f"WHERE queue_name = '{QUEUE}' AND args ->> 'user_id' = :user_id"


def create_job_tables(engine: Engine) -> None:
    """Create Procrastinate's tables, types and functions in the engine's schema; nothing if they are there.

    Safe to call twice, and from two places at once. On SQLite there is nothing to create: jobs run in process.
    A newer version of Procrastinate brings changes of its tables as SQL files; see its documentation.
    """
    if engine.dialect.name != "postgresql" or has_job_tables(engine):  # who only works needs no right to create
        return
    from procrastinate.schema import SchemaManager

    with write_transaction(engine) as connection:
        wait_for(connection, Lock.CREATE_JOB_TABLES)
        if not has_job_tables(connection):
            # Many statements in one text: the driver takes them only if it is given no parameters at all.
            connection.execution_options(no_parameters=True).exec_driver_sql(SchemaManager.get_schema())
            connection.exec_driver_sql(_INDEX)


def has_job_tables(engine: Engine | Connection) -> bool:
    """Whether Procrastinate's tables can be found by their plain names."""
    if engine.dialect.name != "postgresql":
        return False
    # By pg_class, whose lock makes this connection hear of tables that others have made since its transaction began.
    there = text("SELECT EXISTS (SELECT FROM pg_class WHERE oid = to_regclass('procrastinate_jobs'))")
    with autocommit_connection(engine) as connection:
        return bool(connection.scalar(there))


def check_job_tables(engine: Engine) -> None:
    """Raise TablesMissing if jobs can't be kept yet."""
    if not has_job_tables(engine):
        raise TablesMissing("there are no tables for jobs in this database. Call create_job_tables(engine) first.")


def delete_jobs(connection: Connection, user_id: str) -> int:
    """Delete the jobs of one user, in the caller's transaction; returns how many there were.

    One that is running is only made nameless: its worker will want to say how it ended.
    """
    if not has_job_tables(connection):
        return 0
    of_user = {"user_id": user_id}
    ended = connection.execute(text(f"DELETE FROM procrastinate_jobs {_OF_USER} AND status <> 'doing'"), of_user)
    # And not those that are running: a worker may have put one back since.
    nameless = text(f"UPDATE procrastinate_jobs SET args = '{{}}', queueing_lock = NULL {_OF_USER}")
    return ended.rowcount + connection.execute(nameless, of_user).rowcount


def url_of(engine: Engine) -> str:
    """The URL by which another process reaches the same tables as this engine. It holds the password, if there is one.

    A search_path that was SET on the engine's connections, as `practice_engine` does, becomes part of the URL.
    Errors: InvalidInput for SQLite in memory, which no other process can reach.
    """
    url = engine.url
    if engine.dialect.name == "sqlite":
        if url.database in (None, "", ":memory:"):
            raise InvalidInput(
                "this engine is SQLite in memory, which no other process can reach. Set POSTGRES_URL, or use a file."
            )
        return url.render_as_string()
    with autocommit_connection(engine) as connection:
        query = text("SELECT setting FROM pg_settings WHERE name = 'search_path' AND source = 'session'")
        path = connection.scalar(query)
    if path is not None:
        escaped = path.replace("\\", r"\\").replace(" ", r"\ ")
        url = url.update_query_dict({"options": f"{url.query.get('options', '')} -csearch_path={escaped}".strip()})
    if is_marked(engine):
        url = url.update_query_dict({MARK: "true"})
    return url.render_as_string(hide_password=False)
