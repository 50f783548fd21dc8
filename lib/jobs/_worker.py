"""A worker: Procrastinate's, with tasks of ours, on an event loop in a thread of its own.

In a thread, because a notebook has an event loop already; on a selector's loop, because psycopg has no use for the one
that Windows prefers. Each job runs in a thread, too, which the end of the process doesn't wait for.
"""

import asyncio
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar

from procrastinate import App, JobContext, PsycopgConnector, RetryDecision
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job
from procrastinate.retry import BaseRetryStrategy
from procrastinate.worker import Worker
from sqlalchemy import make_url

from lib.database import QUEUE, Lock, take_if_free, url_of, without_mark
from lib.database.engine import CONNECT_TIMEOUT_SECONDS
from lib.database.transactions import write_transaction
from lib.errors import DatabaseUnavailable
from lib.jobs._queue import CONSOLIDATE, EXTRACT, MAX_TRIES, JobQueue, JobReport

Result = TypeVar("Result")

WEEKLY, EACH_MONDAY = "workbook:weekly", "0 3 * * 1"  # 03:00; Procrastinate goes by UTC
# A Monday on which no worker ran at 03:00 is made up for by the next one to start.
MAX_DELAY = timedelta(days=7)
MISSED_HEARTBEATS = 3
TICK_SECONDS = 0.1  # between looks at whether to stop
LAST_SECONDS = 10.0  # for a database to take the last words of a worker that leaves


class Retry(BaseRetryStrategy):
    """Three times as long each time: 3 s, 9 s, 27 s … At once for a job that was only interrupted."""

    def __init__(self, seconds: float):
        self._seconds = seconds

    def wait(self, job: Job) -> float:
        """Seconds until the next try."""
        return self._seconds * float(3**job.attempts)

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        """When to try again; None to give up."""
        if isinstance(exception, asyncio.CancelledError):
            return RetryDecision()
        if job.attempts + 1 >= MAX_TRIES:
            return None
        return RetryDecision(retry_at=datetime.now(UTC) + timedelta(seconds=self.wait(job)))


@dataclass
class WorkerRun:
    """One run of a worker, until it is told to stop or loses the database."""

    jobs: JobQueue
    report: JobReport  # counts what is done
    wait: bool = True  # for jobs; else it leaves when none is ready, or one fails
    concurrency: int = 1
    weekly: bool = False
    stop: threading.Event = field(default_factory=threading.Event)
    say: Callable[[str], None] = lambda line: None

    def __post_init__(self) -> None:
        self._error: Exception | None = None
        self._retry = Retry(self.jobs.retry_seconds if self.wait else 0)
        self._dead_after = MISSED_HEARTBEATS * self.jobs.heartbeat_seconds

    def run(self) -> None:
        """Work, and return at the end. Errors: of the job that ended it, without `wait`; lost connections."""
        done = in_thread(self._run_loop)
        try:
            while not (done.done() or self.stop.is_set()):
                wait([done], timeout=TICK_SECONDS)  # in steps: Ctrl-C doesn't end a wait without an end on Windows
        except BaseException:
            self.stop.set()
            raise
        finally:
            wait([done], timeout=self.jobs.stop_seconds + LAST_SECONDS)
        if not done.done():
            raise DatabaseUnavailable("the database doesn't answer; the worker left without telling it.")
        done.result()

    def _run_loop(self) -> None:
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.get_loop().set_exception_handler(self._job_lost)
            runner.run(self._serve())

    async def _serve(self) -> None:
        async with self._app().open_async() as app:
            self._worker = Worker(
                app,
                queues=[QUEUE],
                name=f"worker {os.getpid()}",
                wait=self.wait,
                concurrency=self.concurrency,
                delete_jobs="successful",  # what has ended leaves no row with a user's name
                listen_notify=self.jobs.listen,
                # Nobody is told that the wait of a job is over.
                fetch_job_polling_interval=min(self.jobs.poll_seconds, self.jobs.retry_seconds),
                update_heartbeat_interval=self.jobs.heartbeat_seconds,
                stalled_worker_timeout=self._dead_after,
                shutdown_graceful_timeout=self.jobs.stop_seconds,
                install_signal_handlers=False,  # they would need the main thread, and don't work on Windows
            )
            await self._tend(app)
            working, tended = asyncio.create_task(self._worker.run()), time.monotonic()
            try:
                while True:
                    await asyncio.wait([working], timeout=TICK_SECONDS)
                    if working.done() or self._error or self.stop.is_set():
                        break
                    if time.monotonic() - tended >= self._dead_after:
                        tended = time.monotonic()
                        await self._tend(app)
            finally:
                self._worker.stop()  # what is in hand is finished
                await working
            if self._error is not None:
                raise self._error

    def _app(self) -> App:
        options: dict[str, Any] = {"connect_timeout": CONNECT_TIMEOUT_SECONDS}
        engine = self.jobs.engine
        options |= engine.dialect.create_connect_args(without_mark(make_url(url_of(engine))))[1]
        if not self.jobs.listen:
            options["prepare_threshold"] = None
        connector = PsycopgConnector(kwargs=options, min_size=1)
        app = App(connector=connector, periodic_defaults={"max_delay": MAX_DELAY.total_seconds()})
        app.task(name=EXTRACT, queue=QUEUE, retry=self._retry, pass_context=True)(self._extract)
        app.task(name=CONSOLIDATE, queue=QUEUE, retry=self._retry, pass_context=True)(self._consolidate)
        weekly = app.task(name=WEEKLY, queue=QUEUE, retry=self._retry)(self._week_ended)
        if self.weekly:
            app.periodic(cron=EACH_MONDAY)(weekly)
        return app

    # --- the tasks. One that has lost its arguments is of a user who was forgotten while it ran. ---

    async def _extract(self, context: JobContext, session_id: str | None = None, user_id: str | None = None) -> None:
        session = None if session_id is None else self.jobs.log.claim(session_id=session_id)
        if session is None:
            return  # done, gone, failed, or in other hands: if those don't finish it, `sweep` makes a new job
        try:
            report = await asyncio.wrap_future(in_thread(self.jobs.extract, session))
        except asyncio.CancelledError:  # we have to leave; our thread will find that the claim is lost
            self.jobs.log.give_back(session)
            raise
        except Exception as error:
            again = self.jobs.postpone(session, error)
            self._job_failed(f"session {session.id}", context.job, error, again)
            if again:
                raise
            self.report.failed += 1
            return
        self.report.add(report)
        if report.failed and (failed := self.jobs.log.get(session.id)):
            self.say(f"session {session.id} is marked failed: {failed.error}")

    async def _consolidate(self, context: JobContext, user_id: str | None = None, week: str | None = None) -> None:
        if user_id is None or week is None:
            return
        monday = date.fromisoformat(week)
        try:
            self.report.add_week(await asyncio.wrap_future(in_thread(self.jobs.consolidate_week, user_id, monday)))
        except Exception as error:
            self._job_failed(f"the week of {week}", context.job, error, context.job.attempts + 1 < MAX_TRIES)
            raise

    async def _week_ended(self, timestamp: int) -> None:
        week = datetime.fromtimestamp(timestamp, UTC).date() - timedelta(days=7)  # by the plan: this may run late
        await asyncio.wrap_future(in_thread(self.jobs.week_ended, week))

    def _job_failed(self, name: str, job: Job, error: Exception, again: bool) -> None:
        then = f"again in {self._retry.wait(job):g} s" if again else "given up"
        self.say(f"{name}: {error!r}; {then}")
        if not self.wait:
            self._error = self._error or error
            self._worker.stop()

    def _job_lost(self, _: asyncio.AbstractEventLoop, event: dict[str, Any]) -> None:
        """Leave when a job's end could not be stored: as long as we live, nobody else would take it for stalled."""
        error = event.get("exception")
        cause = getattr(error, "__cause__", None) or error  # Procrastinate's own says "Database error", and no more
        self._error = self._error or DatabaseUnavailable(f"a job's end could not be stored: {cause}.")

    # --- what every worker does for all ---

    async def _tend(self, app: App) -> None:
        """Free what dead workers had in hand, and make the jobs that are missing; one worker at a time does it.

        Not as a job: that would wait behind those that wait, and be as stuck as they are if its worker died.
        """
        with write_transaction(self.jobs.engine) as connection:
            if take_if_free(connection, Lock.TEND_JOBS):
                dead_after = self._dead_after
                for job in await app.job_manager.get_stalled_jobs(queue=QUEUE, seconds_since_heartbeat=dead_after):
                    self._free_claim(job)
                    with suppress(ConnectorException):  # it has ended meanwhile, or the same one waits already
                        await app.job_manager.retry_job(job)
                await asyncio.wrap_future(in_thread(self.jobs.sweep))

    def _free_claim(self, job: Job) -> None:
        """Don't wait until the claim lapses. If its owner lives after all, it learns of it, and stores nothing."""
        session_id = job.task_kwargs.get("session_id")
        session = self.jobs.log.get(session_id) if isinstance(session_id, str) else None
        if session is not None and session.state == "extracting":
            self.jobs.log.give_back(session)


def in_thread(function: Callable[..., Result], *arguments: object) -> "Future[Result]":
    """Call in a thread that the end of the process doesn't wait for: a model may take minutes."""
    future: Future[Result] = Future()
    future.set_running_or_notify_cancel()  # from now on nobody can cancel it, only stop waiting

    def call() -> None:
        try:
            future.set_result(function(*arguments))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=call, daemon=True).start()
    return future
