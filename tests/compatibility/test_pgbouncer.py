"""The store through a real PgBouncer in transaction mode, where the next transaction may get another connection."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from sqlalchemy import text

from lib.database._job_tables import create_job_tables
from lib.database._urls import parse_url
from lib.database.engine import connect, create_tables
from lib.errors import InvalidDatabaseURL
from lib.jobs.jobs import Jobs
from lib.postgres.row_level_security import as_user, enable_row_level_security
from lib.practice.local_postgres import start_postgres
from lib.practice.practice_model import start_practice_model
from lib.retrieval.search import retrieve
from lib.store.memory_store import MemoryStore
from lib.workbook.trials.jobs import drain, hand_in, outcome, workers

PROGRAM = shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer")
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="there is no pgbouncer here; install it to run these")

THREADS, ROUNDS = 6, 40


@pytest.fixture(scope="module")
def direct_url() -> Iterator[str]:
    with start_postgres() as server:
        engine = connect(server.url)
        create_tables(engine)
        enable_row_level_security(engine)
        engine.dispose()
        yield server.url


@pytest.fixture(scope="module")
def pooled_url(direct_url: str) -> Iterator[str]:
    """A pooler that shares three connections among everybody."""
    url = parse_url(direct_url)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="pgbouncer-"))
    settings = folder / "pgbouncer.ini"
    (folder / "users.txt").write_text(f'"{url.username}" ""\n')
    settings.write_text(
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
        f"auth_file = {folder}/users.txt\npool_mode = transaction\ndefault_pool_size = 3\n"
        f"[databases]\n{url.database} = host={url.query['host']} port={url.query['port']} user={url.username}\n"
    )
    folder.chmod(0o755)
    command = [PROGRAM, *(["-u", "nobody"] if os.geteuid() == 0 else []), str(settings)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    pooled = f"postgresql://{url.username}@127.0.0.1:{port}/{url.database}"
    for _ in range(50):
        time.sleep(0.1)
        if port in {connection.laddr.port for connection in psutil.Process(process.pid).net_connections()}:
            break
    yield pooled
    process.terminate()
    process.wait()
    shutil.rmtree(folder)


def work(url: str) -> list[Exception]:
    """Many threads store, read, search and list; returns the errors that they met."""
    store = MemoryStore(connect(url, pool_size=THREADS))

    def one(number: int) -> list[Exception]:
        errors: list[Exception] = []
        user = f"user {number}"
        for round in range(ROUNDS):
            try:
                store.put(user, "facts", f"fact {round}", {"content": f"Number {round}."})
                assert store.get(user, "facts", f"fact {round}") == {"content": f"Number {round}."}
                assert 0 < len(store.search(user, "facts", limit=3)) <= 3
            except Exception as error:
                errors.append(error)
        return errors

    with ThreadPoolExecutor(THREADS) as threads:
        found = [error for errors in threads.map(one, range(THREADS)) for error in errors]
    store.engine.dispose()
    return found


def test_told_of_the_pooler_every_call_succeeds(pooled_url):
    assert work(f"{pooled_url}?pgbouncer=true") == []


def test_not_told_of_it_the_error_says_what_to_add_to_the_url(pooled_url):
    errors = work(pooled_url)

    assert errors
    assert {type(error) for error in errors} == {InvalidDatabaseURL}
    assert "pgbouncer=true" in str(errors[0])


def test_search_and_row_level_security_hold_through_it(pooled_url):
    engine = connect(f"{pooled_url}?pgbouncer=true")
    stores = {user: MemoryStore(as_user(engine, user)) for user in ("ada", "bob")}
    for user, store in stores.items():
        store.put(user, "facts", "home", {"content": f"{user} lives in a house of their own."})

    def look(number: int) -> set[str]:
        user = ("ada", "bob")[number % 2]
        with as_user(engine, user).connect() as connection:
            return set(connection.scalars(text("SELECT user_id FROM memories"))) - {user}

    with ThreadPoolExecutor(THREADS) as threads:
        leaked = set().union(*threads.map(look, range(100)))

    assert leaked == set()
    assert retrieve(stores["ada"], "ada", "Where does ada live?")[0].item.key == "home"
    engine.dispose()


def test_workers_do_their_jobs_through_it(pooled_url, direct_url):
    direct = connect(direct_url)
    create_job_tables(direct)
    direct.dispose()
    engine = connect(f"{pooled_url}?pgbouncer=true")
    with start_practice_model() as model:
        jobs = Jobs(engine)
        with workers(2, engine, model=model):
            session_ids = hand_in(jobs, 20)
            drain(jobs, progress=False, timeout_seconds=60)

        assert outcome(jobs, session_ids).once == 20
    engine.dispose()
