"""What the tests share: one PostgreSQL server, both databases with empty tables, a store, a clock."""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from lib.database._urls import parse_url
from lib.database.engine import connect, create_tables
from lib.database.transactions import write_transaction
from lib.postgres.partitioning import create_partitioned_tables
from lib.practice.local_postgres import start_postgres
from lib.practice.practice_model import Behaviour, PracticeModel, start_practice_model
from lib.store.memory_store import MemoryStore

ROOT = Path(__file__).parent.parent
START = datetime(2026, 3, 1, 12, tzinfo=UTC)
DATABASES = ("sqlite", "postgresql")


class Clock:
    """A clock that stands still until it is told to move."""

    def __init__(self) -> None:
        self.time = START

    def __call__(self) -> datetime:
        return self.time

    def advance(self, **amount: float) -> datetime:
        """Move on by so many `seconds`, `hours`, `days` (the arguments of timedelta); returns the new time."""
        self.time += timedelta(**amount)
        return self.time


@contextmanager
def fresh_schema(server_url: str) -> Iterator[str]:
    """The URL of a schema made for this block and dropped after it; nothing else in the database is touched."""
    schema = f"workbook_test_{uuid.uuid4().hex[:12]}"
    engine = connect(server_url, pool_size=1)
    try:
        with engine.begin() as connection:
            connection.execute(text(f"CREATE SCHEMA {schema}"))
        url = parse_url(server_url)
        options = f"{url.query.get('options', '')} -csearch_path={schema} -clock_timeout=20s".strip()
        yield url.update_query_dict({"options": options}).render_as_string(hide_password=False)
        with engine.begin() as connection:
            connection.execute(text("SET lock_timeout = '20s'"))
            connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))
    finally:
        engine.dispose()


@pytest.fixture(scope="session")
def postgres_server_url() -> Iterator[str]:
    """A PostgreSQL server: the one of POSTGRES_URL, else one that we start, once for each process of the tests."""
    if given := os.environ.get("POSTGRES_URL"):
        yield given
        return
    with start_postgres() as server:
        yield server.url


@pytest.fixture(scope="session")
def postgres_url(postgres_server_url: str) -> Iterator[str]:
    """The URL of a schema of our own, with the tables, on that server."""
    with fresh_schema(postgres_server_url) as url:
        engine = connect(url, pool_size=1)
        # WORKBOOK_TEST_PARTITIONS=8 runs every test on partitioned tables: see test_partitions.py.
        if partitions := os.environ.get("WORKBOOK_TEST_PARTITIONS"):
            create_partitioned_tables(engine, int(partitions))
        create_tables(engine)
        engine.dispose()
        yield url


@pytest.fixture(scope="session")
def postgres_engine(postgres_url: str) -> Iterator[Engine]:
    engine = connect(postgres_url, pool_size=10)
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def sqlite_engine() -> Iterator[Engine]:
    engine = connect("sqlite://")
    create_tables(engine)
    yield engine
    engine.dispose()


@pytest.fixture(params=DATABASES)
def kind(request: pytest.FixtureRequest) -> str:
    """The database that a test runs on: whatever uses this, or a fixture below, runs on both."""
    return request.param


@pytest.fixture
def engine(kind: str, request: pytest.FixtureRequest) -> Engine:
    """An engine with the workbook's tables, all of them empty: SQLite in memory, then PostgreSQL."""
    return empty(request.getfixturevalue(f"{'postgres' if kind == 'postgresql' else kind}_engine"))


@pytest.fixture
def database_url(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """The URL of a database with empty tables that other processes can open too: an SQLite file, then PostgreSQL."""
    if kind == "postgresql":
        empty(request.getfixturevalue("postgres_engine"))
        return request.getfixturevalue("postgres_url")
    url = sqlite_file_url(tmp_path)
    engine = connect(url)
    create_tables(engine)
    engine.dispose()
    return url


@pytest.fixture
def bare_database_url(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """As `database_url`, but without the tables."""
    if kind == "sqlite":
        yield sqlite_file_url(tmp_path)
        return
    with fresh_schema(request.getfixturevalue("postgres_server_url")) as url:
        yield url


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(engine: Engine, clock: Clock) -> MemoryStore:
    """A store on empty tables, which stamps its memories with the time of `clock`."""
    return MemoryStore(engine, now=clock)


@pytest.fixture(scope="module")
def server() -> Iterator[PracticeModel]:
    """A practice model, the same one for all tests of a file."""
    with start_practice_model() as server:
        yield server


@pytest.fixture
def actor(server: PracticeModel) -> PracticeModel:
    """The practice model without anything that an earlier test told it."""
    server.behaviour = Behaviour()
    server.usage.reset()
    return server


def sqlite_file_url(folder: Path) -> str:
    """A file in a folder whose name has a space: paths like that are common, and easy to get wrong."""
    folder = folder / "with a space"
    folder.mkdir()
    return f"sqlite:///{folder / 'memories.db'}"


def empty(engine: Engine) -> Engine:
    with write_transaction(engine) as connection:
        for table in ("users", "content_cache", "cache_leases"):  # the rest goes with its user
            # Not TRUNCATE: it makes new files for each table and index, and takes longer for the few rows of a test.
            connection.execute(text(f"DELETE FROM {table}"))
    return engine


def start_worker(*arguments: object, url: str) -> subprocess.Popen:
    """Another process on the same database: see reliability_worker.py."""
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("reliability_worker.py")), *map(str, arguments)],
        # Not as an argument: every user of the computer can read those, and the URL may hold a password.
        env={**os.environ, "WORKER_URL": url, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
