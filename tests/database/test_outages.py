"""A server that goes away in the middle of the work: what was acknowledged is there, and who calls again gets on."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import ROOT

from lib.database.engine import connect, create_tables
from lib.formation.session_log import SessionLog
from lib.practice.local_postgres import LocalPostgres, start_postgres
from lib.store.memory_store import MemoryStore

PROCESSES = 3
PUTS = 1500  # of all processes together
BETWEEN_SECONDS = 0.4  # from one outage to the next
MAX_OUTAGES = 60  # so that a test ends where hardly anything is done between two
SECONDS = 120  # longest wait for the processes


def crash_and_restart(server: LocalPostgres) -> None:
    postmaster = psutil.Process(int((server.data_folder / "postmaster.pid").read_text().split()[0]))
    for process in [postmaster, *postmaster.children(recursive=True)]:
        process.kill()
    time.sleep(0.2)  # meanwhile nobody is there to answer
    server.restart()


@pytest.fixture
def server() -> Iterator[LocalPostgres]:
    with start_postgres(durable=True) as server:
        yield server


@pytest.fixture
def workers(server: LocalPostgres) -> Iterator[list[subprocess.Popen]]:
    """Processes that are ready to put, each for a user of its own, and wait for a line."""
    environment = {**os.environ, "WORKER_URL": server.url, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    script = str(Path(__file__).with_name("outage_worker.py"))
    engine = connect(server.url)
    create_tables(engine)
    engine.dispose()
    started = [
        subprocess.Popen(
            [sys.executable, script, f"user-{number}", str(PUTS // PROCESSES)],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for number in range(PROCESSES)
    ]  # fmt: skip
    for worker in started:
        assert worker.stdout.readline() == "ready\n"
    yield started
    for worker in started:
        worker.kill()
        worker.communicate()


@pytest.mark.parametrize("outage", [crash_and_restart, LocalPostgres.restart])
def test_every_acknowledged_put_survives_and_callers_see_nothing_but_an_error_to_call_again(
    server: LocalPostgres, workers: list[subprocess.Popen], outage: Callable[[LocalPostgres], None]
) -> None:
    for worker in workers:
        worker.stdin.write("\n")
        worker.stdin.flush()

    outages = 0
    while any(worker.poll() is None for worker in workers) and outages < MAX_OUTAGES:
        time.sleep(BETWEEN_SECONDS)
        outage(server)
        outages += 1

    said: list[dict[str, Any]] = [json.loads(worker.communicate(timeout=SECONDS)[0]) for worker in workers]
    engine = connect(server.url)
    store, log = MemoryStore(engine), SessionLog(engine)
    for number, worker in enumerate(said):
        assert worker["others"] == {}  # nothing of the driver's, nothing of SQLAlchemy's, nobody gave up
        assert worker["again"] > 0  # or there was no outage worth the name
        assert worker["acknowledged"] == list(range(PUTS // PROCESSES))
        found = {item.key: item.value["content"] for item in store.search(f"user-{number}", "log", limit=None)}
        assert found == {f"key-{n}": f"number {n}" for n in worker["acknowledged"]}
        # Handed in again with the same id, a conversation isn't kept twice.
        assert log.counts(f"user-{number}")["pending"] == len(range(4 * 4, PUTS // PROCESSES, 4 * 8))
    assert outages >= 2
    engine.dispose()
