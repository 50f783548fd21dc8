"""From a URL to tables: URL rules, errors that say what to do and never show a password, transactions."""

import os
import re
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from conftest import sqlite_file_url, start_worker
from sqlalchemy import Engine, event, inspect, text

from lib.database import transactions
from lib.database._urls import configured_url, parse_url, safe
from lib.database.engine import connect, create_tables
from lib.database.tables import Base
from lib.database.transactions import write_transaction
from lib.errors import DatabaseUnavailable, InvalidDatabaseURL, InvalidInput, TablesMissing, WorkbookError
from lib.practice.local_postgres import LocalPostgres, start_postgres
from lib.store.memory_store import MemoryStore

SECRET = "s3cret"
CALLS: dict[str, Callable[[MemoryStore], Any]] = {
    "put": lambda store: store.put("ada", "facts", "k", {"a": 1}),
    "put_many": lambda store: store.put_many("ada", [("facts", "k", {"a": 1})]),
    "get": lambda store: store.get("ada", "facts", "k"),
    "search": lambda store: store.search("ada", filter={"a": 1}),
    "search_by_content": lambda store: store.search_by_content("ada", "tea"),
    "delete": lambda store: store.delete("ada", "facts", "k"),
    "clear": lambda store: store.clear("ada", "facts"),
    "list_namespaces": lambda store: store.list_namespaces("ada"),
    "forget_user": lambda store: store.forget_user("ada"),
}


def everything_said(error: BaseException) -> str:
    """What a traceback of the error would print, and the error itself."""
    return "".join(traceback.format_exception(error)) + repr(error)


# --- URLs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_spelling_of_postgresql_names_the_driver(scheme: str) -> None:
    url = parse_url(f" {scheme}://ada:s3cret@db.example:6543/app?sslmode=require\n")

    assert url.render_as_string(hide_password=False) == (
        "postgresql+psycopg://ada:s3cret@db.example:6543/app?sslmode=require"
    )


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_spelling_of_postgresql_connects(postgres_url: str, scheme: str) -> None:
    engine = connect(postgres_url.replace("postgresql+psycopg", scheme, 1))

    with engine.connect() as connection:
        assert connection.scalar(text("SELECT 1")) == 1
    engine.dispose()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite+pysqlite://"])
def test_every_spelling_of_sqlite_in_memory_is_shared_by_threads(url: str) -> None:
    engine = connect(url)
    create_tables(engine)
    store = MemoryStore(engine)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: store.put("ada", "facts", f"key-{n}", {}), range(20)))

    assert store.list_namespaces("ada") == {"facts": 20}
    engine.dispose()


def test_two_databases_in_memory_are_two() -> None:
    first, second = connect("sqlite://"), connect("sqlite://")
    create_tables(first)

    assert inspect(second).get_table_names() == []
    first.dispose()
    second.dispose()


@pytest.mark.parametrize("name", ["plain.db", "with space.db", "100%.db", "a#b.db", "é😀.db", "it's.db"])
def test_an_sqlite_file_may_have_any_name(tmp_path: Path, name: str) -> None:
    engine = connect(f"sqlite:///{tmp_path / name}")
    create_tables(engine)
    MemoryStore(engine).put("ada", "facts", "k", {"a": 1})
    engine.dispose()

    again = connect(f"sqlite:///{tmp_path / name}")

    assert MemoryStore(again).get("ada", "facts", "k") == {"a": 1}
    assert (tmp_path / name).exists()
    again.dispose()


def test_a_relative_sqlite_path_is_taken_from_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    connect("sqlite:///here.db").dispose()

    assert (tmp_path / "here.db").exists()


@pytest.mark.parametrize(
    "url",
    ["", "  ", None, 5, b"sqlite://", "nonsense", "postgresql", "postgresql:/x", f"mysql://ada:{SECRET}@h/d", "oracle://h",
     f"postgresql+psycopg2://ada:{SECRET}@h/d", f"postgresql+asyncpg://ada:{SECRET}@h/d", f"http://ada:{SECRET}@h/d",
     f"postgresql://ada:{SECRET}", f"postgresql://ada:{SECRET}@h:port/d", f"postgres//ada:{SECRET}@h/d",
     f"postgresql://ada:{SECRET}@/d", f"ada:{SECRET}@h/d", f"mysql://h/d?password={SECRET}", "sqlite+aiosqlite://",
     f"postgresql://ada:{SECRET}@[::1/d"],
)  # fmt: skip
def test_a_url_that_cannot_be_used_is_refused_with_the_forms_that_can(url: Any) -> None:
    with pytest.raises(InvalidDatabaseURL, match=re.escape("postgresql://user:password@host:5432/database")) as refused:
        connect(url) if url is not None else parse_url(url)

    assert SECRET not in everything_said(refused.value).replace(f"{url!r}", "")


def test_a_url_is_shown_without_its_password() -> None:
    url = parse_url(f"postgresql://ada:{SECRET}@h/d?password={SECRET}&sslpassword={SECRET}")

    assert SECRET not in safe(url)
    assert safe(url).startswith("postgresql+psycopg://ada:***@h/d")


# --- POSTGRES_URL and the .env file ---------------------------------------------------------------


def test_the_url_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTGRES_URL", "postgresql://from-environment/d")

    assert configured_url() == "postgresql://from-environment/d"


def test_the_url_is_read_from_an_env_file_here_or_above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "notebooks").mkdir()
    (tmp_path / ".env").write_text("# mine\nPOSTGRES_URL='postgresql://from-file/d'\n")
    monkeypatch.delenv("POSTGRES_URL", raising=False)

    for folder in (tmp_path, tmp_path / "notebooks"):
        monkeypatch.chdir(folder)
        assert configured_url() == "postgresql://from-file/d"
    assert "POSTGRES_URL" not in os.environ


def test_the_environment_goes_before_the_env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("POSTGRES_URL=postgresql://from-file/d\n")
    monkeypatch.chdir(tmp_path)

    monkeypatch.setenv("POSTGRES_URL", "postgresql://from-environment/d")
    assert configured_url() == "postgresql://from-environment/d"
    monkeypatch.setenv("POSTGRES_URL", "")  # how one turns it off for once
    assert configured_url() is None


def test_connect_takes_the_configured_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres_url: str) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("POSTGRES_URL", raising=False)
    without = connect()
    (tmp_path / ".env").write_text(f"POSTGRES_URL='{postgres_url}'\n")

    configured = connect()

    assert (without.dialect.name, configured.dialect.name) == ("sqlite", "postgresql")
    without.dispose()
    configured.dispose()


# --- databases that can't be reached --------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_an_unreachable_server_is_reported_without_the_password() -> None:
    url = f"postgresql://ada:{SECRET}@127.0.0.1:{free_port()}/app"

    with pytest.raises(DatabaseUnavailable, match="Is the server running") as refused:
        connect(url)

    assert SECRET not in everything_said(refused.value)
    assert "ada:***@127.0.0.1" in str(refused.value)


def test_a_server_that_accepts_and_says_nothing_is_given_up() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        begin = time.monotonic()

        with pytest.raises(DatabaseUnavailable):
            connect(f"postgresql://ada:{SECRET}@127.0.0.1:{silent.getsockname()[1]}/app?connect_timeout=2")

    assert time.monotonic() - begin < 8


@pytest.mark.parametrize("query", ["nonsense=1", "sslmode=nonsense", f"password={SECRET}&sslmode=nonsense", "port=x"])
def test_an_option_that_the_driver_does_not_know_is_reported(query: str) -> None:
    with pytest.raises(WorkbookError) as refused:
        connect(f"postgresql://ada:{SECRET}@127.0.0.1/app?{query}")

    assert SECRET not in everything_said(refused.value)


@pytest.fixture(scope="module")
def guarded() -> Iterator[LocalPostgres]:
    """A server of its own on which the role `guarded` needs a password (the others on it need none)."""
    with start_postgres() as server:
        file = server.data_folder / "pg_hba.conf"
        file.write_text(f"local all guarded scram-sha-256\n{file.read_text()}")
        with psycopg.connect(parse_url(server.url).set(drivername="postgresql").render_as_string(False)) as connection:
            connection.execute(f"CREATE ROLE guarded LOGIN PASSWORD '{SECRET}:@/#%'")
            connection.execute("SELECT pg_reload_conf()")
        yield server


def as_guarded(server: LocalPostgres, password: str) -> str:
    return parse_url(server.url).set(username="guarded", password=password).render_as_string(hide_password=False)


def test_the_right_password_connects_whatever_characters_it_has(guarded: LocalPostgres) -> None:
    engine = connect(as_guarded(guarded, f"{SECRET}:@/#%"))

    assert SECRET not in repr(engine)
    engine.dispose()


@pytest.mark.parametrize("password", [f"wrong-{SECRET}", f"{SECRET}:@/#% "])
def test_a_wrong_password_is_reported_without_showing_it(guarded: LocalPostgres, password: str) -> None:
    with pytest.raises(DatabaseUnavailable, match="Check the user name and the password") as refused:
        connect(as_guarded(guarded, password))

    assert SECRET not in everything_said(refused.value)


def test_a_database_that_does_not_exist_is_reported(guarded: LocalPostgres) -> None:
    with pytest.raises(DatabaseUnavailable, match="Create it first"):
        connect(parse_url(guarded.url).set(database="nowhere").render_as_string())


def test_a_folder_that_does_not_exist_is_reported(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailable, match=r"does not exist\. Create it first"):
        connect(f"sqlite:///{tmp_path / 'nowhere' / 'file.db'}")


def test_a_file_that_is_no_database_is_reported_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "letter.txt"
    file.write_text("Dear Ada, " * 1000)

    for path in (file, tmp_path):
        with pytest.raises(DatabaseUnavailable, match="Is it an SQLite file"):
            connect(f"sqlite:///{path}")

    assert file.read_text() == "Dear Ada, " * 1000


# --- tables ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_database_without_tables_says_what_to_call(bare_database_url: str, call: Callable) -> None:
    engine = connect(bare_database_url)

    with pytest.raises(TablesMissing, match=re.escape("Call create_tables(engine) first")):
        call(MemoryStore(engine))

    create_tables(engine)
    call(MemoryStore(engine))
    engine.dispose()


def test_creating_the_tables_twice_changes_nothing(bare_database_url: str) -> None:
    engine = connect(bare_database_url)
    create_tables(engine)
    MemoryStore(engine).put("ada", "facts", "k", {"a": 1})
    before = described(engine)

    create_tables(engine)

    assert described(engine) == before
    assert set(before) == {table.name for table in Base.metadata.sorted_tables}
    assert MemoryStore(engine).get("ada", "facts", "k") == {"a": 1}
    engine.dispose()


def test_eight_threads_may_create_the_tables_at_one_moment(bare_database_url: str) -> None:
    engine = connect(bare_database_url)
    barrier = threading.Barrier(8, timeout=20)

    def create(_: int) -> None:
        barrier.wait()
        create_tables(engine)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(create, range(8)))

    assert set(described(engine)) == {table.name for table in Base.metadata.sorted_tables}
    engine.dispose()


def test_two_processes_may_create_the_tables_at_one_moment(bare_database_url: str) -> None:
    workers = [start_worker("create-tables", url=bare_database_url) for _ in range(2)]
    for worker in workers:
        assert worker.stdout.readline() == "ready\n"

    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    errors = [worker.communicate(timeout=30)[1] for worker in workers]

    assert errors == ["", ""]
    engine = connect(bare_database_url)
    assert set(described(engine)) == {table.name for table in Base.metadata.sorted_tables}
    engine.dispose()


def described(engine: Engine) -> dict[str, set[str]]:
    """The tables, and the names of the indexes on each."""
    inspector = inspect(engine)
    full_text = ("memory_terms", "memory_vocabulary")  # SQLite's own tables
    tables = [name for name in inspector.get_table_names() if not name.startswith(full_text)]
    return {table: {index["name"] for index in inspector.get_indexes(table)} for table in tables}


# --- transactions ---------------------------------------------------------------------------------


def test_an_error_in_a_transaction_undoes_all_of_it(engine: Engine) -> None:
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error), write_transaction(engine) as connection:
            connection.execute(text("INSERT INTO users VALUES ('ada', '2026-01-01', '{}')"))
            raise error

    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM users")) == 0


def test_no_call_leaves_a_connection_in_a_transaction(postgres_url: str, postgres_engine: Engine) -> None:
    engine = connect(f"{postgres_url}&application_name=workbook_idle_test", pool_size=3)
    store = MemoryStore(engine)
    watch = "SELECT state FROM pg_stat_activity WHERE application_name = 'workbook_idle_test'"

    for name, call in CALLS.items():
        call(store)
        with pytest.raises(InvalidInput):
            store.put_many("ada", [("facts", "k", {}), ("facts", "k", {"bad": float("nan")})])
        with postgres_engine.connect() as connection:
            states = connection.scalars(text(watch)).all()
        assert states and set(states) == {"idle"}, name

    engine.dispose()


def test_calls_give_their_connections_back(engine: Engine) -> None:
    store = MemoryStore(engine)

    for call in CALLS.values():
        call(store)
        with pytest.raises(InvalidInput):
            store.search("ada", limit=-1)

    assert engine.pool.checkedout() == 0


# --- databases that are lost ----------------------------------------------------------------------


def terminate(engine: Engine, application_name: str) -> int:
    """Kill the connections of that name on the server's side; returns how many."""
    kill = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = :name")
    with engine.connect() as connection:
        return len(connection.scalars(kill, {"name": application_name}).all())


def wait_until_gone(engine: Engine, application_name: str) -> None:
    """A server process ends a moment after it was told to, and only then is its end to be seen."""
    count = text("SELECT count(*) FROM pg_stat_activity WHERE application_name = :name")
    for _ in range(200):
        with engine.connect() as connection:
            if connection.scalar(count, {"name": application_name}) == 0:
                return
        time.sleep(0.01)
    raise AssertionError(f"{application_name} is still connected")


def test_a_connection_killed_between_two_calls_is_replaced(postgres_url: str, postgres_engine: Engine) -> None:
    engine = connect(f"{postgres_url}&application_name=workbook_kill_test")
    store = MemoryStore(engine)

    for number, call in enumerate(CALLS.values()):
        store.put("ada", "facts", "kept", {"n": number})
        assert terminate(postgres_engine, "workbook_kill_test") >= 1
        wait_until_gone(postgres_engine, "workbook_kill_test")
        call(store)

    engine.dispose()


@pytest.mark.parametrize("name", ["put", "put_many", "delete", "clear", "forget_user"])
def test_a_connection_killed_in_the_middle_of_a_call_is_reported(
    postgres_url: str, postgres_engine: Engine, name: str
) -> None:
    engine = connect(f"{postgres_url}&application_name=workbook_midcall_test")
    store = MemoryStore(engine)
    store.put("ada", "facts", "k", {"before": True})

    with postgres_engine.connect() as blocker, ThreadPoolExecutor(1) as pool:
        blocker.execute(text("SELECT * FROM memories, users FOR UPDATE"))
        call = pool.submit(CALLS[name], store)
        wait_until_blocked(postgres_engine, "workbook_midcall_test")
        terminate(postgres_engine, "workbook_midcall_test")

        with pytest.raises(DatabaseUnavailable, match="whole or not at all; call again"):
            call.result(timeout=20)
        blocker.rollback()

    assert store.get("ada", "facts", "k") == {"before": True}  # nothing happened, and the store goes on
    CALLS[name](store)
    engine.dispose()


def wait_until_blocked(engine: Engine, application_name: str) -> None:
    waits = text("SELECT count(*) FROM pg_stat_activity WHERE application_name = :name AND wait_event_type = 'Lock'")
    for _ in range(500):
        with engine.connect() as connection:
            if connection.scalar(waits, {"name": application_name}):
                return
        time.sleep(0.01)
    raise AssertionError("the call never came to wait for the lock")


def test_a_server_that_stopped_is_reported_by_every_call() -> None:
    with start_postgres() as server:
        engine = connect(server.url)
        create_tables(engine)
        store = MemoryStore(engine)
        store.put("ada", "facts", "k", {})

    for call in CALLS.values():
        with pytest.raises(DatabaseUnavailable):
            call(store)
    engine.dispose()


def test_a_server_that_is_starting_or_stopping_is_told_from_one_that_is_not_there(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise psycopg.OperationalError("connection failed: FATAL:  the database system is starting up")

    monkeypatch.setattr(psycopg, "connect", refuse)

    with pytest.raises(DatabaseUnavailable, match="starting, recovering or shutting down: wait a few seconds"):
        connect(postgres_url)


def test_a_call_that_finds_every_connection_in_use_is_told_so() -> None:
    engine = connect("sqlite://", pool_size=1, max_overflow=0)
    create_tables(engine)
    store = MemoryStore(engine)
    engine.pool._timeout = 0.05

    with engine.connect():
        for call in CALLS.values():
            with pytest.raises(DatabaseUnavailable, match=r"in use.*call again, or have fewer threads"):
                call(store)

    assert store.search("ada") == []
    engine.dispose()


def test_a_connection_opened_just_now_is_not_doubted(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = connect(postgres_url)
    engine.dispose()
    monkeypatch.setattr(transactions, "_has_something_to_say", lambda _: True)

    assert MemoryStore(engine).get("ada", "facts", "none") is None
    engine.dispose()


@pytest.mark.parametrize("size", [1, 3])
def test_all_connections_of_a_pool_are_replaced_when_one_was_closed(
    postgres_url: str, postgres_engine: Engine, size: int
) -> None:
    engine = connect(f"{postgres_url}&application_name=workbook_pool_test", pool_size=size)
    held = [engine.connect() for _ in range(size)]
    for connection in held:
        connection.close()
    assert terminate(postgres_engine, "workbook_pool_test") == size
    wait_until_gone(postgres_engine, "workbook_pool_test")

    for _ in range(size + 1):
        assert MemoryStore(engine).get("ada", "facts", "none") is None

    engine.dispose()


def test_a_server_that_lets_nobody_write_is_reported_as_unavailable(postgres_url: str) -> None:
    readable = parse_url(postgres_url).query["options"] + " -cdefault_transaction_read_only=on"
    url = parse_url(postgres_url).update_query_dict({"options": readable}).render_as_string(hide_password=False)
    engine = connect(url)
    store = MemoryStore(engine)

    for name in ("put", "put_many", "delete", "forget_user"):
        with pytest.raises(DatabaseUnavailable, match=r"read-only transaction.*call again"):
            CALLS[name](store)

    assert store.search("ada") == []
    engine.dispose()


def test_an_sqlite_file_that_another_process_keeps_locked_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lib.database.engine.BUSY_TIMEOUT_SECONDS", 0.2)
    url = sqlite_file_url(tmp_path)
    engine, other = connect(url), connect(url)
    create_tables(engine)
    store = MemoryStore(engine)

    with write_transaction(other):
        for name in ("put", "put_many", "forget_user"):
            with pytest.raises(DatabaseUnavailable, match="locked"):
                CALLS[name](store)
        assert store.search("ada") == []  # reading doesn't wait for a writer

    assert store.put("ada", "facts", "k", {"a": 1})
    engine.dispose()
    other.dispose()


def test_a_full_disk_stores_nothing_and_is_reported(tmp_path: Path) -> None:
    engine = connect(sqlite_file_url(tmp_path))
    create_tables(engine)
    store = MemoryStore(engine)
    store.put("ada", "facts", "small", {"a": 1})
    event.listen(engine, "checkout", lambda connection, *_: connection.execute("PRAGMA max_page_count = 60"))

    with pytest.raises(DatabaseUnavailable, match="full"):
        store.put("ada", "facts", "large", {"content": "x" * 1_000_000})
    with pytest.raises(DatabaseUnavailable, match="full"):
        store.put_many("ada", [("facts", f"key-{i}", {"content": "x" * 10_000}) for i in range(100)])

    assert [item.key for item in store.search("ada", limit=None)] == ["small"]
    engine.dispose()


def test_an_sqlite_file_is_flushed_before_a_write_is_acknowledged(tmp_path: Path) -> None:
    engine = connect(sqlite_file_url(tmp_path))

    with engine.connect() as connection:
        settings = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")]

    assert settings == ["wal", 2]  # 2 is FULL
    engine.dispose()
