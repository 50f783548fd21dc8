"""A database to practise in: on a server of one's own it is a schema that goes when its owner does."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest
from conftest import ROOT
from sqlalchemy import Engine, text

from lib.database.engine import connect
from lib.practice.local_postgres import LocalPostgres, start_postgres
from lib.workbook.practice_database import MARK, drop_abandoned_schemas

SECONDS = 15  # after which a schema without an owner must be gone
OWNER = """
import os, sys, time
from lib.workbook.practice_database import practice_engine
from lib.store.memory_store import MemoryStore
engine = practice_engine()
store = MemoryStore(engine)
store.put("ada", "facts", "k", {"a": 1})
with engine.connect() as connection:
    schema = connection.exec_driver_sql("SELECT current_schema()").scalar()
print(schema, flush=True)
line = sys.stdin.readline()
while line:
    print(store.get("ada", "facts", "k"), flush=True)
    line = sys.stdin.readline()
"""


@pytest.fixture(scope="module")
def server() -> Iterator[LocalPostgres]:
    with start_postgres() as server:
        yield server


@pytest.fixture
def engine(server: LocalPostgres) -> Iterator[Engine]:
    engine = connect(server.url)
    yield engine
    engine.dispose()


@pytest.fixture
def start_owner(server: LocalPostgres) -> Iterator[Callable[[], tuple[subprocess.Popen, str]]]:
    """Start a process with a practice engine; returns it with the name of its schema."""
    started: list[subprocess.Popen] = []

    def start() -> tuple[subprocess.Popen, str]:
        owner = subprocess.Popen(
            [sys.executable, "-c", OWNER],
            env={**os.environ, "PYTHONPATH": str(ROOT), "POSTGRES_URL": server.url},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(owner)
        return owner, owner.stdout.readline().strip()

    yield start
    for owner in started:
        owner.kill()
        owner.communicate()


def schemas(engine: Engine) -> set[str]:
    with engine.connect() as connection:
        return set(connection.scalars(text(r"SELECT nspname FROM pg_namespace WHERE nspname LIKE 'workbook\_%'")))


def test_a_schema_is_gone_when_its_owner_has_ended(engine: Engine, start_owner: Callable) -> None:
    owner, schema = start_owner()
    assert schema in schemas(engine)

    owner.communicate()

    assert schema not in schemas(engine)


def test_the_next_owner_drops_the_schema_of_one_that_was_killed(engine: Engine, start_owner: Callable) -> None:
    owner, schema = start_owner()
    owner.kill()
    owner.wait()

    drop_until_gone(engine, schema)


def drop_until_gone(engine: Engine, schema: str) -> None:
    deadline = time.monotonic() + SECONDS
    while schema in schemas(engine):  # the server may take a moment to notice
        assert time.monotonic() < deadline, f"{schema} is still there"
        drop_abandoned_schemas(engine)


def test_a_restart_of_the_server_takes_nobodys_schema(
    server: LocalPostgres, engine: Engine, start_owner: Callable
) -> None:
    owner, schema = start_owner()
    server.restart()
    owner.stdin.write("\n")
    owner.stdin.flush()
    assert owner.stdout.readline() == "{'a': 1}\n"

    drop_abandoned_schemas(engine)

    assert schema in schemas(engine)
    owner.communicate()
    drop_until_gone(engine, schema)


def test_what_somebody_else_named_like_ours_is_left_alone(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("CREATE SCHEMA workbook_of_somebody"))
        connection.execute(text("CREATE SCHEMA workbookxabandoned"))
        connection.execute(text("CREATE SCHEMA workbook_abandoned"))
        for schema in ("workbookxabandoned", "workbook_abandoned"):
            connection.execute(text(f"COMMENT ON SCHEMA {schema} IS '{MARK}'"))

    drop_abandoned_schemas(engine)

    with engine.connect() as connection:
        left = set(connection.scalars(text("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'workbook%'")))
    assert {"workbook_of_somebody", "workbookxabandoned"} <= left
    assert "workbook_abandoned" not in left
