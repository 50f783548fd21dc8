"""Jobs on many workers: killed, stopped, run twice, without a model or a database; nothing is lost or done twice."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import openai
import pytest
from conftest import ROOT, empty, fresh_schema
from procrastinate.exceptions import ConnectorException
from procrastinate.manager import JobManager
from sqlalchemy import Connection, Engine, event, make_url, text

from lib.database._job_tables import create_job_tables, url_of
from lib.database.engine import connect, create_tables
from lib.database.transactions import autocommit_connection, write_transaction
from lib.errors import DatabaseUnavailable, InvalidInput, TablesMissing, WorkbookError
from lib.formation._episodes import users_with_episodes
from lib.formation.extraction import MAX_CLAIMS
from lib.jobs._queue import EXTRACT, MAX_TRIES, JobReport
from lib.jobs.jobs import RETRY, TEND, WEEKLY, Jobs
from lib.llm.chat import chat_model
from lib.practice.practice_model import Behaviour, PracticeModel
from lib.store.items import Forgotten
from lib.workbook.trials.jobs import drain, hand_in, outcome, workers

TALK = [{"turn": 1, "speaker": "user", "text": "I work at a hospital in Lund. I prefer short answers."}]
NAME = "workbook_test_jobs"  # of our connections, so that a test ends no others


@pytest.fixture(scope="module")
def job_engine(postgres_server_url: str) -> Iterator[Engine]:
    """PostgreSQL with the tables for jobs, in a schema of its own: other tests do without them."""
    with fresh_schema(postgres_server_url) as url:
        engine = connect(f"{url}&application_name={NAME}")
        create_tables(engine)
        create_job_tables(engine)
        yield engine
        engine.dispose()


@pytest.fixture
def postgres(job_engine: Engine) -> Engine:
    with write_transaction(job_engine) as connection:
        for table in ("periodic_defers", "jobs", "workers"):
            connection.execute(text(f"DELETE FROM procrastinate_{table}"))
    return empty(job_engine)


@pytest.fixture
def both(kind: str, request: pytest.FixtureRequest) -> Engine:
    """SQLite, then PostgreSQL with the tables for jobs."""
    return empty(request.getfixturevalue("sqlite_engine")) if kind == "sqlite" else request.getfixturevalue("postgres")


@pytest.fixture(autouse=True)
def retry_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RETRY, "exponential_wait", 0)


def jobs_on(engine: Engine, actor: PracticeModel, **options) -> Jobs:
    quick = {"heartbeat_seconds": 0.2, "poll_seconds": 0.05}
    model = chat_model(practice=actor, max_retries=0, timeout=10)
    return Jobs(engine, model=model, **{**quick, **options})


def rows(engine: Engine) -> list[tuple[str, str, dict]]:
    """Of all jobs that somebody waits for: status, task and arguments."""
    with autocommit_connection(engine) as connection:
        query = (
            "SELECT CAST(status AS text), task_name, args FROM procrastinate_jobs WHERE task_name <> :tend ORDER BY id"
        )
        return [tuple(row) for row in connection.execute(text(query), {"tend": TEND})]


def run(engine: Engine, sql: str, **values: object) -> None:
    with write_transaction(engine) as connection:
        connection.execute(text(sql), values)


def wait_until(true: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it didn't come to pass"
        time.sleep(0.02)


@contextmanager
def working(jobs: Jobs, **options) -> Iterator[list[str]]:
    """A worker in a thread, for the block; the lines that it says."""
    stop, lines = threading.Event(), []
    with ThreadPoolExecutor() as pool:
        done = pool.submit(jobs.work, stop=stop, **{"say": lines.append, "weekly": False, **options})
        try:
            yield lines
        finally:
            stop.set()
            done.result(timeout=20)


# --- handing in -----------------------------------------------------------------------------------


def test_a_conversation_that_is_over_is_extracted_by_the_same_call_on_both_databases(
    both: Engine, actor: PracticeModel
) -> None:
    jobs = jobs_on(both, actor)
    session_id = jobs.session_ended("ada", TALK)

    report = jobs.run_waiting()

    assert (report.extracted, report.failed) == (1, 0)
    assert jobs.log.get(session_id).state == "extracted"
    assert jobs.store.list_namespaces("ada")


def test_running_again_does_nothing(both: Engine, actor: PracticeModel) -> None:
    jobs = jobs_on(both, actor)
    jobs.session_ended("ada", TALK)
    jobs.run_waiting()
    calls = actor.usage.calls

    report = jobs.run_waiting()

    assert report == JobReport() and actor.usage.calls == calls


def test_it_runs_within_an_event_loop_as_in_a_notebook(both: Engine, actor: PracticeModel) -> None:
    jobs = jobs_on(both, actor)
    jobs.session_ended("ada", TALK)

    async def cell() -> int:
        return jobs.run_waiting().extracted

    assert asyncio.run(cell()) == 1


def test_the_memories_are_the_same_in_process_and_by_workers(
    sqlite_engine: Engine, postgres: Engine, actor: PracticeModel
) -> None:
    kept = []
    for engine in (empty(sqlite_engine), postgres):
        jobs = jobs_on(engine, actor)
        hand_in(jobs, 6, users=6)
        if jobs.on_postgres:
            with working(jobs), working(jobs, concurrency=2):
                drain(jobs, progress=False, timeout_seconds=20)
        else:
            jobs.run_waiting()
        items = [item for user in range(6) for item in jobs.store.search(f"user {user}", limit=None)]
        # The name of an episode holds its time.
        kept.append({(item.user_id, item.namespace, item.value["content"]) for item in items})

    assert len(kept[0]) > 6
    assert kept[0] == kept[1]


def test_a_conversation_and_its_job_are_stored_together_or_not_at_all(
    postgres: Engine, actor: PracticeModel, monkeypatch
) -> None:
    jobs = jobs_on(postgres, actor)
    jobs.session_ended("ada", TALK)

    def full(*_: object, **__: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(jobs, "_defer", full)
    with pytest.raises(OSError):
        jobs.session_ended("bob", TALK)

    assert [(status, args["user_id"]) for status, _, args in rows(postgres)] == [("todo", "ada")]
    assert jobs.log.counts("bob")["pending"] == 0


def test_a_connection_that_is_lost_while_handing_in_leaves_nothing(
    postgres: Engine, actor: PracticeModel, monkeypatch
) -> None:
    jobs = jobs_on(postgres, actor)

    defer = jobs._defer

    def lose(connection: Connection, *arguments: str, **job: str) -> None:
        run(postgres, "SELECT pg_terminate_backend(:pid)", pid=connection.connection.dbapi_connection.info.backend_pid)
        defer(connection, *arguments, **job)

    monkeypatch.setattr(jobs, "_defer", lose)
    with pytest.raises(DatabaseUnavailable):
        jobs.session_ended("ada", TALK)

    assert rows(postgres) == []
    assert sum(jobs.log.counts().values()) == 0


def test_handing_in_twice_makes_one_job(postgres: Engine, actor: PracticeModel) -> None:
    jobs = jobs_on(postgres, actor)
    session_id = jobs.session_ended("ada", TALK)

    jobs.session_ended("ada", TALK, session_id=session_id)
    waiting = len(rows(postgres))
    jobs.run_waiting()
    jobs.session_ended("ada", TALK, session_id=session_id)  # done long since: its job finds nothing to do
    again = jobs.run_waiting()

    assert waiting == 1
    assert (again, actor.usage.calls) == (JobReport(), 1)
    assert rows(postgres) == []


def test_the_same_conversation_handed_in_by_many_at_once_makes_one_job(postgres: Engine, actor: PracticeModel) -> None:
    jobs = jobs_on(postgres, actor)
    session_id = jobs.session_ended("ada", TALK)
    run(postgres, "DELETE FROM procrastinate_jobs")

    with ThreadPoolExecutor(6) as pool:
        ends = [pool.submit(jobs.session_ended, "ada", TALK, session_id=session_id) for _ in range(5)]
        ends.append(pool.submit(jobs.sweep))
        for end in ends:
            end.result()

    assert len(rows(postgres)) == 1


def test_a_claim_may_name_its_conversation(both: Engine, actor: PracticeModel) -> None:
    jobs = jobs_on(both, actor)
    jobs.session_ended("ada", TALK)
    second = jobs.session_ended("ada", TALK)

    claimed = jobs.log.claim(session_id=second)
    again = jobs.log.claim(session_id=second)

    assert claimed.id == second
    assert again is None


# --- jobs that run twice, are lost, or fail -------------------------------------------------------


def test_a_job_that_runs_twice_changes_nothing(postgres: Engine, actor: PracticeModel) -> None:
    jobs = jobs_on(postgres, actor)
    session_id = jobs.session_ended("ada", TALK)
    jobs.run_waiting()
    before, calls = jobs.store.search("ada", limit=None), actor.usage.calls

    with write_transaction(postgres) as connection:
        jobs._defer(connection, EXTRACT, "again", user_id="ada", session_id=session_id)
    jobs.run_waiting()

    assert rows(postgres) == []
    assert actor.usage.calls == calls
    assert jobs.store.search("ada", limit=None) == before


def test_a_conversation_whose_job_was_lost_is_found(postgres: Engine, actor: PracticeModel) -> None:
    jobs = jobs_on(postgres, actor)
    jobs.session_ended("ada", TALK)
    run(postgres, "DELETE FROM procrastinate_jobs")
    jobs.log.finish("bob", TALK)  # by somebody who knows of no jobs

    with working(jobs):
        drain(jobs, progress=False, timeout_seconds=20)

    assert jobs.log.counts()["extracted"] == 2


def test_a_claim_that_lapsed_is_found_by_a_worker_that_runs(postgres: Engine, actor: PracticeModel) -> None:
    jobs = jobs_on(postgres, actor, lease_seconds=0.5)
    jobs.session_ended("ada", TALK)
    jobs.log.claim()  # and never completed

    with working(jobs):
        drain(jobs, progress=False, timeout_seconds=20)

    assert jobs.log.counts()["extracted"] == 1


def test_what_a_dead_worker_had_in_hand_is_free_before_its_claim_lapses(postgres: Engine, actor: PracticeModel) -> None:
    jobs = jobs_on(postgres, actor, lease_seconds=3600)
    session_id = jobs.session_ended("ada", TALK)
    jobs.log.claim()
    run(postgres, "INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - interval '1 minute')")
    run(postgres, "UPDATE procrastinate_jobs SET status = 'doing', worker_id = (SELECT id FROM procrastinate_workers)")

    report = jobs.run_waiting()

    assert report.extracted == 1
    assert jobs.log.get(session_id).attempts == 2
    assert rows(postgres) == []


def test_a_dead_workers_job_gives_way_to_the_same_one_that_waits(postgres: Engine, actor: PracticeModel) -> None:
    jobs = jobs_on(postgres, actor)
    session_id = jobs.session_ended("ada", TALK)
    run(postgres, "UPDATE procrastinate_jobs SET status = 'doing'")  # by a worker that is known no more
    jobs.session_ended("ada", TALK, session_id=session_id)
    waiting = rows(postgres)

    report, again = jobs.run_waiting(), jobs.run_waiting()

    assert [status for status, *_ in waiting] == ["doing", "todo"]
    assert (report, again) == (JobReport(extracted=1), JobReport())
    assert rows(postgres) == []


def test_a_job_whose_end_could_not_be_stored_is_done_again(postgres: Engine, actor: PracticeModel, monkeypatch) -> None:
    jobs = jobs_on(postgres, actor)
    jobs.session_ended("ada", TALK)
    actor.behaviour.failures = ["500"]
    errors, retry_job = [ConnectorException("the connection is gone")], JobManager.retry_job

    async def lose_once(manager: JobManager, *arguments: object, **options: object) -> None:
        if errors:
            raise errors.pop()
        await retry_job(manager, *arguments, **options)

    monkeypatch.setattr(JobManager, "retry_job", lose_once)
    monkeypatch.setattr("lib.jobs.jobs.PAUSE_SECONDS", 0.1)
    with working(jobs) as lines:
        drain(jobs, progress=False, timeout_seconds=20)
        wait_until(lambda: not rows(postgres))

    assert jobs.log.counts()["extracted"] == 1
    assert any("end could not be stored: the connection is gone" in line for line in lines)


def test_a_worker_whose_heartbeat_is_late_does_not_take_itself_for_dead(
    postgres: Engine, actor: PracticeModel, monkeypatch
) -> None:
    async def late(*_: object) -> None: ...

    monkeypatch.setattr(JobManager, "update_heartbeat", late)
    jobs = jobs_on(postgres, actor, heartbeat_seconds=0.1)
    session_id = jobs.session_ended("ada", TALK)
    actor.behaviour.first_token_ms = 2_000  # a worker looks for dead ones each second

    with working(jobs, concurrency=2) as lines:
        drain(jobs, progress=False, timeout_seconds=20)

    assert (jobs.log.get(session_id).attempts, actor.usage.calls) == (1, 1)
    assert len(lines) == 2  # it started, it stopped


def test_a_model_that_cannot_be_reached_is_asked_again_after_longer_and_longer(
    postgres: Engine, actor: PracticeModel, monkeypatch
) -> None:
    monkeypatch.undo()
    jobs = jobs_on(postgres, actor)
    session_id = jobs.session_ended("ada", TALK)
    actor.behaviour.failures = ["500", "drop"]
    waits = []

    with working(jobs) as lines:
        for failed in (1, 2):
            wait_until(lambda: len(lines) > failed and rows(postgres)[0][0] == "todo")  # noqa: B023 - called at once
            with autocommit_connection(postgres) as connection:
                left = text("SELECT scheduled_at - now() FROM procrastinate_jobs WHERE task_name = :task")
                waits.append(connection.scalar(left, {"task": EXTRACT}))
            run(postgres, "UPDATE procrastinate_jobs SET scheduled_at = now() WHERE scheduled_at > now()")
        drain(jobs, progress=False, timeout_seconds=20)

    assert jobs.log.get(session_id).state == "extracted"
    assert jobs.log.get(session_id).attempts == 3
    failures = [line for line in lines if session_id in line]
    assert len(failures) == 2 and len(lines) == 4
    assert "try 1: " in failures[0] and "Error code: 500" in failures[0] and "try 2: " in failures[1]
    assert [1 < wait.total_seconds() <= most for wait, most in zip(waits, (3, 9), strict=True)] == [True, True]
    assert waits[1].total_seconds() > 3


def test_after_many_tries_it_is_marked_failed_with_the_reason_and_can_be_tried_again(
    postgres: Engine, actor: PracticeModel
) -> None:
    jobs = jobs_on(postgres, actor)
    session_id = jobs.session_ended("ada", TALK)
    actor.behaviour.failures = ["500"] * MAX_TRIES

    with working(jobs):
        wait_until(lambda: jobs.log.counts()["failed"] and not rows(postgres))
    failed, left = jobs.log.get(session_id), rows(postgres)
    jobs.log.retry_failed()
    report = jobs.run_waiting()

    assert (failed.state, actor.usage.failed, MAX_CLAIMS - MAX_TRIES) == ("failed", MAX_TRIES, 1)
    assert f"tried {MAX_TRIES} times; the last time: " in failed.error
    assert left == []
    assert report.extracted == 1


@pytest.mark.parametrize("failure", ["500", "drop"])
def test_an_error_of_the_model_is_raised_in_process_and_costs_nothing(
    both: Engine, actor: PracticeModel, failure: str
) -> None:
    jobs = jobs_on(both, actor)
    hand_in(jobs, 12)
    actor.behaviour.failures = [failure]

    with pytest.raises(openai.APIError):
        jobs.run_waiting()
    states = jobs.log.counts()
    report = jobs.run_waiting()

    assert states == {"pending": 12, "extracting": 0, "extracted": 0, "failed": 0}
    assert report.extracted == 12


def test_answers_that_cannot_be_used_fail_the_conversation_and_are_told(postgres: Engine, actor: PracticeModel) -> None:
    jobs = jobs_on(postgres, actor)
    session_id = jobs.session_ended("ada", TALK)
    actor.behaviour.answers = ["not json", "not json"]

    with working(jobs) as lines:
        wait_until(lambda: not rows(postgres))

    assert jobs.log.get(session_id).state == "failed"
    assert f"{session_id} is marked failed" in lines[1] and "could not be used" in lines[1]
    assert rows(postgres) == []


# --- forgetting -----------------------------------------------------------------------------------


def test_a_user_who_is_forgotten_leaves_no_job(postgres: Engine, actor: PracticeModel) -> None:
    jobs = jobs_on(postgres, actor)
    jobs.session_ended("ada", TALK)
    jobs.session_ended("bob", TALK)
    other = "INSERT INTO procrastinate_jobs (queue_name, task_name, args) VALUES ('mail', 'send', CAST(:args AS jsonb))"
    run(postgres, other, args='{"user_id": "ada"}')

    forgotten = jobs.store.forget_user("ada")

    assert forgotten == Forgotten(memories=0, sessions=1, cached_contents=0, jobs=1)
    assert [(task, args["user_id"]) for _, task, args in rows(postgres)] == [(EXTRACT, "bob"), ("send", "ada")]


def test_without_tables_for_jobs_a_user_is_forgotten_as_ever(store) -> None:
    store.put("ada", "facts", "home", {})

    assert store.forget_user("ada") == Forgotten(memories=1, sessions=0, cached_contents=0, jobs=0)


def test_a_user_forgotten_while_their_job_runs_ends_it_quietly(postgres: Engine, actor: PracticeModel) -> None:
    jobs = jobs_on(postgres, actor)
    jobs.session_ended("ada", TALK)
    actor.behaviour.first_token_ms = 500

    with working(jobs) as lines:
        wait_until(lambda: actor.requests and jobs.log.counts()["extracting"])
        forgotten = jobs.store.forget_user("ada")
        between = rows(postgres)
        wait_until(lambda: not rows(postgres))

    assert forgotten.jobs == 1
    assert between == [("doing", EXTRACT, {})]
    assert len(lines) == 2  # it started, it stopped
    assert jobs.store.list_namespaces("ada") == {}


def test_a_user_forgotten_while_their_job_fails_leaves_nothing(postgres: Engine, actor: PracticeModel) -> None:
    jobs = jobs_on(postgres, actor)
    jobs.session_ended("ada", TALK)
    actor.behaviour = Behaviour(first_token_ms=300, failures=["drop"])

    with working(jobs):
        wait_until(lambda: jobs.log.counts()["extracting"])
        jobs.store.forget_user("ada")
        wait_until(lambda: not rows(postgres))

    assert jobs.store.list_namespaces("ada") == {}


# --- weeks ----------------------------------------------------------------------------------------


def last_monday() -> datetime:
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return today - timedelta(days=today.weekday())


def live_through(jobs: Jobs, user_id: str, monday: datetime) -> None:
    for day, content in enumerate(("Ada mixed up stacks and queues.", "Ada mixed up stacks and queues again.")):
        value = {"content": content, "type": "episodic", "topics": ["python"], "confidence": 1.0}
        said_at = monday + timedelta(days=day, hours=9)
        jobs.store.put(user_id, "episodes", f"day {day}", value | {"said_at": said_at.isoformat()})


def test_a_week_is_consolidated_for_everybody_who_has_episodes_of_it(both: Engine, actor: PracticeModel) -> None:
    jobs, week = jobs_on(both, actor), last_monday() - timedelta(days=7)
    live_through(jobs, "ada", week)
    live_through(jobs, "bob", week)
    live_through(jobs, "eve", week + timedelta(days=7))  # of a week that isn't over

    users = jobs.week_ended(week.date())
    jobs.week_ended(week)
    first = jobs.run_waiting()
    again = jobs.week_ended(week.date()), jobs.run_waiting().weeks

    assert users == 2
    assert first.weeks == 2 and actor.usage.calls == 2
    assert again[1] == 0 and actor.usage.calls == 2
    assert users_with_episodes(jobs.store, week + timedelta(days=7)) == ["eve"]


def test_two_workers_make_the_weekly_jobs_once(postgres: Engine, actor: PracticeModel) -> None:
    jobs = jobs_on(postgres, actor)
    live_through(jobs, "ada", last_monday() - timedelta(days=7))
    if datetime.now(UTC) < last_monday() + timedelta(hours=3, minutes=1):
        live_through(jobs, "ada", last_monday() - timedelta(days=14))  # then the plan is still that of last week
    actor.behaviour.first_token_ms = 200
    start, stop = threading.Barrier(2), threading.Event()

    def worker() -> None:
        start.wait()
        jobs.work(stop=stop, say=lambda line: None)

    with ThreadPoolExecutor() as pool:
        done = [pool.submit(worker) for _ in range(2)]
        try:
            wait_until(lambda: actor.usage.calls and not rows(postgres))
        finally:
            stop.set()
        for end in done:
            end.result(timeout=20)
    with working(jobs, weekly=True):
        wait_until(lambda: count(postgres, "procrastinate_workers") == 1)
        time.sleep(0.3)

    with autocommit_connection(postgres) as connection:
        query = text("SELECT count(*) FROM procrastinate_periodic_defers WHERE task_name = :weekly")
        defers = connection.scalar(query, {"weekly": WEEKLY})
    assert (actor.usage.calls, defers) == (1, 1)
    assert rows(postgres) == []


def test_a_week_that_cannot_be_read_is_tried_again(postgres: Engine, actor: PracticeModel) -> None:
    jobs, week = jobs_on(postgres, actor), last_monday() - timedelta(days=7)
    live_through(jobs, "ada", week)
    jobs.week_ended(week.date())
    actor.behaviour.failures = ["500"]

    with pytest.raises(openai.APIError):
        jobs.run_waiting()

    assert jobs.run_waiting().weeks == 1


# --- workers --------------------------------------------------------------------------------------


def test_of_sixty_conversations_and_three_workers_of_which_two_are_killed_each_is_extracted_once(
    postgres: Engine, actor: PracticeModel
) -> None:
    jobs = Jobs(postgres)
    actor.behaviour.first_token_ms = 60

    with workers(3, postgres, model=actor) as crew:
        ids = hand_in(jobs, 60)
        drain(jobs, at={0.2: crew.kill, 0.5: crew.kill}, progress=False, timeout_seconds=60)
        alive = crew.alive

    found = outcome(jobs, ids)
    assert alive == 1
    assert (found.once, found.lost, found.twice) == (60, 0, 0)
    assert jobs.log.counts()["extracted"] == 60
    # A killed worker had at most one in hand, for which the model was asked for nothing.
    assert 60 <= actor.usage.calls <= found.tries <= 62
    assert rows(postgres) == []


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGTERM on Windows; closing the standard input stops it")
def test_a_worker_that_gets_sigterm_finishes_what_it_has_in_hand(postgres: Engine, actor: PracticeModel) -> None:
    jobs = Jobs(postgres)
    hand_in(jobs, 5)
    actor.behaviour.first_token_ms = 700
    environment = {**os.environ, "POSTGRES_URL": url_of(postgres), "PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1"}
    environment |= {"OPENAI_BASE_URL": actor.url, "OPENAI_API_KEY": "practice", "OPENAI_MODEL": "practice-model"}

    command = [sys.executable, "-m", "lib", "worker", "--no-weekly"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_until(lambda: jobs.log.counts()["extracting"], 60)
    process.send_signal(signal.SIGTERM)
    printed = process.communicate(timeout=20)[0]

    assert process.returncode == 0
    assert jobs.log.counts() == {"pending": 4, "extracting": 0, "extracted": 1, "failed": 0}
    assert [line.split(" ")[2] for line in printed.splitlines()] == ["started,", "stopped:"]
    assert [status for status, *_ in rows(postgres)] == ["todo"] * 4


def test_a_worker_that_loses_its_database_connections_goes_on(postgres: Engine, actor: PracticeModel) -> None:
    jobs, name = jobs_on(postgres, actor), "workbook_test_victim"
    victim = connect(make_url(url_of(postgres)).update_query_dict({"application_name": name}).render_as_string(False))

    with working(jobs_on(victim, actor)):
        wait_until(lambda: count(postgres, "procrastinate_workers") == 1)
        terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = :name"
        run(postgres, terminate, name=name)
        jobs.session_ended("ada", TALK)
        drain(jobs, progress=False, timeout_seconds=20)

    assert jobs.log.counts()["extracted"] == 1
    victim.dispose()


def test_a_worker_whom_others_took_for_dead_goes_on(postgres: Engine, actor: PracticeModel, monkeypatch) -> None:
    jobs = jobs_on(postgres, actor)
    monkeypatch.setattr("lib.jobs.jobs.PAUSE_SECONDS", 0.1)

    with working(jobs) as lines:
        wait_until(lambda: count(postgres, "procrastinate_workers") == 1)
        run(postgres, "DELETE FROM procrastinate_workers")
        jobs.session_ended("ada", TALK)
        drain(jobs, progress=False, timeout_seconds=20)

    assert jobs.log.counts()["extracted"] == 1
    assert any("starts again" in line for line in lines)


@pytest.mark.parametrize("concurrency", [0, -1, "2", 1.5])
def test_a_number_of_jobs_at_a_time_that_makes_no_sense_is_named(
    postgres: Engine, actor: PracticeModel, concurrency: object
) -> None:
    with pytest.raises(InvalidInput, match="concurrency must be"):
        jobs_on(postgres, actor).work(concurrency=concurrency)


def test_jobs_are_found_without_listening_behind_a_pooler(postgres: Engine, actor: PracticeModel) -> None:
    pooled = connect(make_url(url_of(postgres)).update_query_dict({"pgbouncer": "true"}).render_as_string(False))
    jobs = jobs_on(pooled, actor)

    with working(jobs):
        wait_until(lambda: count(postgres, "procrastinate_workers") == 1)
        jobs.session_ended("ada", TALK)
        drain(jobs, progress=False, timeout_seconds=20)
        with autocommit_connection(postgres) as connection:
            listening = "SELECT count(*) FROM pg_stat_activity WHERE application_name = :name AND query LIKE 'LISTEN%'"
            listeners = connection.scalar(text(listening), {"name": NAME})

    assert listeners == 0
    pooled.dispose()


def test_on_sqlite_a_worker_says_what_to_do_instead(
    sqlite_engine: Engine, actor: PracticeModel, monkeypatch, capsys
) -> None:
    from lib.workbook.command import main

    monkeypatch.setenv("POSTGRES_URL", "")

    with pytest.raises(InvalidInput, match="run_waiting"):
        jobs_on(sqlite_engine, actor).work()
    code = main(["worker"])

    assert code == 1
    assert "POSTGRES_URL" in capsys.readouterr().err


def test_a_worker_until_empty_does_what_waits_and_leaves(
    postgres: Engine, actor: PracticeModel, monkeypatch, capsys
) -> None:
    from lib.workbook.command import main

    jobs = Jobs(postgres)
    hand_in(jobs, 2)
    for name, value in (("POSTGRES_URL", url_of(postgres)), ("OPENAI_BASE_URL", actor.url), ("NO_PROXY", "127.0.0.1")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OPENAI_MODEL", "practice-model")

    code = main(["worker", "--until-empty"])

    assert code == 0
    assert jobs.log.counts()["extracted"] == 2
    assert "extracted=2" in capsys.readouterr().out


def count(engine: Engine, table: str) -> int:
    with autocommit_connection(engine) as connection:
        return connection.scalar(text(f"SELECT count(*) FROM {table}"))


# --- tables and URLs ------------------------------------------------------------------------------


def test_the_tables_are_made_once_however_many_ask(postgres_server_url: str) -> None:
    with fresh_schema(postgres_server_url) as url:
        engine = connect(url)
        create_tables(engine)
        with pytest.raises(TablesMissing, match="create_job_tables"):
            Jobs(engine)

        with ThreadPoolExecutor(4) as pool:
            for done in [pool.submit(create_job_tables, engine) for _ in range(4)]:
                done.result()

        assert count(engine, "procrastinate_jobs") == 0
        engine.dispose()


def test_a_search_path_that_was_set_goes_into_the_url(postgres_server_url: str) -> None:
    engine = connect(postgres_server_url)
    path = '"$user", "it\'s a \\ path", public'
    plain = url_of(engine)
    engine.dispose()

    @event.listens_for(engine, "connect")
    def use_path(driver: object, _: object) -> None:
        driver.autocommit = True
        driver.execute(f"SET search_path TO {path}")
        driver.autocommit = False

    other = connect(url_of(engine))

    with other.connect() as connection:
        assert connection.scalar(text("SHOW search_path")) == path
    assert "search_path" not in plain
    for one in (engine, other):
        one.dispose()


def test_a_database_in_memory_has_no_url(sqlite_engine: Engine) -> None:
    with pytest.raises(InvalidInput, match="SQLite in memory"):
        url_of(sqlite_engine)


@pytest.mark.parametrize("seconds", [0, -1, "3", float("nan"), 1e9])
def test_a_time_that_makes_no_sense_is_named(sqlite_engine: Engine, seconds: object) -> None:
    with pytest.raises(InvalidInput, match="heartbeat_seconds must be"):
        Jobs(sqlite_engine, heartbeat_seconds=seconds)


def test_a_drain_that_never_ends_is_ended(sqlite_engine: Engine, actor: PracticeModel) -> None:
    jobs = jobs_on(empty(sqlite_engine), actor)
    jobs.session_ended("ada", TALK)

    with pytest.raises(WorkbookError, match="1 of 1 are left"):
        drain(jobs, progress=False, timeout_seconds=0.2)
