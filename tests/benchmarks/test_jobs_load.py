"""Two hundred conversations, three workers, two of them killed at random moments; and how fast more workers are.

To run it (about three minutes):

    uv run pytest -n0 -s tests/benchmarks/test_jobs_load.py
"""

import random
import time
from collections.abc import Iterator
from functools import partial

import pytest
from sqlalchemy import Engine, text

from lib.database._job_tables import create_job_tables
from lib.database.engine import connect, create_tables
from lib.database.transactions import write_transaction
from lib.jobs.jobs import Jobs
from lib.practice.local_postgres import start_postgres
from lib.practice.practice_model import Behaviour, start_practice_model
from lib.workbook.trials.jobs import drain, hand_in, outcome, workers

SESSIONS, WORKERS, KILLS, RUNS = 200, 3, 2, 3
WAITING = 100_000  # jobs of others
ANSWER_MS = 80  # until the practice model answers


@pytest.fixture
def engine() -> Iterator[Engine]:
    with start_postgres() as server:
        engine = connect(server.url)
        create_tables(engine)
        create_job_tables(engine)
        yield engine
        engine.dispose()


def forget_everybody(engine: Engine) -> None:
    with write_transaction(engine) as connection:
        connection.execute(text("DELETE FROM users"))


def test_none_is_lost_and_none_is_done_twice(engine: Engine) -> None:
    jobs = Jobs(engine)
    for run in range(RUNS):
        forget_everybody(engine)
        chance = random.Random(run)
        moments = sorted(round(chance.uniform(0.05, 0.8), 2) for _ in range(KILLS))
        with start_practice_model(behaviour=Behaviour(first_token_ms=ANSWER_MS)) as model:
            with workers(WORKERS, engine, model=model) as crew:
                ids = hand_in(jobs, SESSIONS)
                seconds = drain(jobs, at=dict.fromkeys(moments, crew.kill), progress=False)
            found, calls = outcome(jobs, ids), model.usage.calls
        print(f"\nkilled at {moments}: {found}, {calls} calls, {seconds:.1f} s")

        assert (found.once, found.lost, found.twice) == (SESSIONS, 0, 0)
        assert SESSIONS <= calls <= found.tries <= SESSIONS + KILLS


def test_more_workers_are_faster(engine: Engine) -> None:
    jobs = Jobs(engine)
    with start_practice_model(behaviour=Behaviour(first_token_ms=ANSWER_MS)) as model:
        speed = {}
        for count in (1, 2, 4):
            with workers(count, engine, model=model):
                hand_in(jobs, SESSIONS)
                speed[count] = SESSIONS / drain(jobs, progress=False)
    print("\nconversations a second, by workers:", {count: round(rate, 1) for count, rate in speed.items()})

    assert speed[4] > 2 * speed[1]


def test_many_waiting_jobs_slow_neither_handing_in_nor_forgetting_down(engine: Engine) -> None:
    jobs = Jobs(engine)
    took = {}
    for waiting in (0, WAITING):
        with write_transaction(engine) as connection:
            connection.execute(
                text(
                    "INSERT INTO procrastinate_jobs (queue_name, task_name, queueing_lock, args) SELECT 'workbook', "
                    "'workbook:extract', 'extract ' || n, jsonb_build_object('user_id', 'other ' || n) "
                    "FROM generate_series(1, :waiting) AS n"
                ),
                {"waiting": waiting},
            )
        talk = [{"turn": 1, "speaker": "user", "text": "x"}]
        actions = {"hand in": partial(jobs.session_ended, transcript=talk), "forget": jobs.store.forget_user}
        for name, action in actions.items():
            began = time.perf_counter()
            for number in range(100):
                action(f"user {number}")
            took[name, waiting] = 10 * (time.perf_counter() - began)
    print("\nms a call:", {f"{name}, {waiting:,} waiting": round(ms, 2) for (name, waiting), ms in took.items()})

    assert all(took[name, WAITING] < 3 * took[name, 0] + 1 for name in ("hand in", "forget"))
