"""A worker: Procrastinate's, with tasks of ours, on an event loop in a thread of its own.

In a thread, because a notebook has an event loop already; on a selector's loop, because psycopg has no use for the one
that Windows prefers. Each job runs in a thread, too, which the end of the process doesn't wait for.
"""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from typing import Any

from procrastinate import App, JobContext, PsycopgConnector, RetryDecision
from procrastinate.exceptions import ConnectorException, UniqueViolation
from procrastinate.jobs import Job, Status
from procrastinate.retry import BaseRetryStrategy
from sqlalchemy import make_url, text

from lib.database import QUEUE, Lock, take_if_free, url_of, without_mark
from lib.database.engine import CONNECT_TIMEOUT_SECONDS
from lib.database.transactions import autocommit_connection, write_transaction
from lib.errors import DatabaseUnavailable, WorkbookError
from lib.formation.extraction import ExtractionReport
from lib.jobs._queue import CONSOLIDATE, EXTRACT, MAX_TRIES, JobQueue, JobReport, reason

WEEKLY, EACH_MONDAY = "workbook:weekly", "0 3 * * 1"  # 03:00; Procrastinate goes by UTC
MISSED_HEARTBEATS = 3
TICK_SECONDS = 0.1  # between looks at whether to stop
EMPTY_SECONDS = 0.5  # between looks at whether anything is left
PAUSE_SECONDS = 2.0  # before a worker that lost the database starts again
LAST_SECONDS = 10.0  # for a database to take the last words of a worker that leaves


class WorkerRun:
    """One run of a worker, until it is told to stop, loses the database or, without `wait`, has nothing to do."""

    def __init__(
        self,
        jobs: JobQueue,
        *,
        report: JobReport,
        wait: bool = True,
        concurrency: int = 1,
        until_empty: bool = False,
        weekly: bool = False,
        stop_at_error: bool = False,
        stop: threading.Event | None = None,
        say: Callable[[str], None] = lambda line: None,
    ):
        self._jobs, self._report, self._say = jobs, report, say
        self._wait, self._concurrency, self._until_empty, self._weekly = wait, concurrency, until_empty, weekly
        self._stop_at_error, self._stop = stop_at_error, stop or threading.Event()
        self._error: Exception | None = None
        self._retry = _Retry(0 if stop_at_error else jobs.retry_seconds)
        self._dead_after = MISSED_HEARTBEATS * jobs.heartbeat_seconds

    def run(self, each_tick: Callable[[], None] = lambda: None) -> None:
        """Work, and return at the end. Errors: the first of a job, if it stops at errors; lost connections."""
        thread = threading.Thread(target=self._run_loop, daemon=True)
        thread.start()
        stopping = 0.0  # seconds
        try:
            while thread.is_alive():
                thread.join(TICK_SECONDS)  # in steps: Ctrl-C doesn't end a wait without an end on Windows
                each_tick()
                stopping += TICK_SECONDS * self._stop.is_set()
                if stopping > self._jobs.stop_seconds + LAST_SECONDS:
                    raise DatabaseUnavailable("the database doesn't answer; the worker left without telling it.")
        except BaseException:
            self._stop.set()
            thread.join(self._jobs.stop_seconds)
            raise
        if self._error is not None:
            raise self._error

    def _run_loop(self) -> None:
        try:
            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                runner.get_loop().set_exception_handler(
                    lambda _, event: self._say(f"a job's end could not be stored: {event.get('exception')}")
                )
                runner.run(self._serve())
        except Exception as error:
            self._error = self._error or error

    async def _serve(self) -> None:
        jobs, app = self._jobs, self._app()
        async with app.open_async():
            await self._tend(app)
            self._working = working = asyncio.create_task(
                app.run_worker_async(
                    queues=[QUEUE],
                    name=f"worker {os.getpid()}",
                    wait=self._wait,
                    concurrency=self._concurrency,
                    delete_jobs="successful",  # what has ended leaves no row with a user's name
                    listen_notify=jobs.listen,
                    # Nobody is told that the wait of a job is over.
                    fetch_job_polling_interval=min(jobs.poll_seconds, jobs.retry_seconds),
                    update_heartbeat_interval=jobs.heartbeat_seconds,
                    stalled_worker_timeout=self._dead_after,
                    shutdown_graceful_timeout=jobs.stop_seconds,
                    install_signal_handlers=False,  # they would need the main thread, and don't work on Windows
                )
            )
            tended = looked = time.monotonic()
            try:
                while not working.done() and not self._stop.is_set():
                    await asyncio.wait([working], timeout=TICK_SECONDS)
                    now = time.monotonic()
                    if now - tended >= self._dead_after:
                        tended = now
                        await self._tend(app)
                    if self._until_empty and now - looked >= EMPTY_SECONDS:
                        looked = now
                        if self._nothing_left():
                            self._stop.set()
            finally:
                self._leave()
                await asyncio.wait([working])
            if not working.cancelled():
                working.result()

    def _app(self) -> App:
        options = {"connect_timeout": CONNECT_TIMEOUT_SECONDS}
        options |= self._jobs.engine.dialect.create_connect_args(without_mark(make_url(url_of(self._jobs.engine))))[1]
        if not self._jobs.listen:
            options["prepare_threshold"] = None
        # A week, so that a Monday on which no worker ran at 03:00 is made up for by the next one to start.
        late = timedelta(days=7).total_seconds()
        app = App(connector=PsycopgConnector(kwargs=options, min_size=1), periodic_defaults={"max_delay": late})
        retry = self._retry
        app.task(name=EXTRACT, queue=QUEUE, retry=retry, pass_context=True)(self._extract)
        app.task(name=CONSOLIDATE, queue=QUEUE, retry=retry, pass_context=True)(self._consolidate)
        weekly = app.task(name=WEEKLY, queue=QUEUE, retry=retry)(self._week_ended)
        if self._weekly:
            app.periodic(cron=EACH_MONDAY)(weekly)
        return app

    # --- the tasks. One that has lost its arguments is of a user who was forgotten while it ran. ---

    async def _extract(self, context: JobContext, session_id: str | None = None, user_id: str | None = None) -> None:
        session = None if session_id is None else self._jobs.log.claim(session_id=session_id)
        if session is None:
            return  # done, gone, failed, or in other hands: if those don't finish it, the sweep makes a new job
        report = ExtractionReport()
        try:
            await _in_thread(self._jobs.extract, session, report)
        except asyncio.CancelledError:  # we have to leave; our thread will find that the claim is lost
            self._jobs.log.give_back(session)
            raise
        except Exception as error:
            later = self._jobs.postpone(session, error)
            self._failed(f"session {session.id}", context.job, error, later)
            if later:
                raise
            report.failed += 1
        self._report.add(report)
        if report.failed and (now := self._jobs.log.get(session.id)):
            self._say(f"session {session.id} is marked failed: {now.error}")

    async def _consolidate(self, context: JobContext, user_id: str | None = None, week: str | None = None) -> None:
        if user_id is None or week is None:
            return
        try:
            self._report.add_week(await _in_thread(self._jobs.consolidate_week, user_id, date.fromisoformat(week)))
        except Exception as error:
            self._failed(f"the week of {week}", context.job, error, context.job.attempts + 1 < MAX_TRIES)
            raise

    async def _week_ended(self, timestamp: int) -> None:
        week = datetime.fromtimestamp(timestamp, UTC).date() - timedelta(days=7)  # by the plan: this may run late
        await _in_thread(self._jobs.week_ended, week)

    def _failed(self, what: str, job: Job, error: Exception, later: bool) -> None:
        then = f"again in {self._retry.wait(job):g} s" if later else "given up"
        self._say(f"{what}: {reason(error)}; {then}")
        if self._stop_at_error:
            self._error = self._error or error
            self._stop.set()
            self._leave()

    def _leave(self) -> None:
        """Have Procrastinate finish what is in hand, and end; a second time would not let it finish."""
        if not self._working.cancelling():
            self._working.cancel()

    # --- what every worker does for all ---

    async def _tend(self, app: App) -> None:
        """Free what dead workers had in hand, and make the jobs that are missing; one worker at a time does it.

        Not as a job: that would wait behind those that wait, and be as stuck as they are if its worker died.
        """
        with write_transaction(self._jobs.engine) as connection:
            if take_if_free(connection, Lock.TEND_JOBS):
                manager = app.job_manager
                for job in await manager.get_stalled_jobs(queue=QUEUE, seconds_since_heartbeat=self._dead_after):
                    await self._free(app, job)
                await _in_thread(self._jobs.sweep)

    async def _free(self, app: App, job: Job) -> None:
        # The claim needn't lapse. If its owner lives after all, it learns that it has lost it, and stores nothing.
        session_id = job.task_kwargs.get("session_id")
        session = None if session_id is None else self._jobs.log.get(session_id)
        if session is not None and session.state == "extracting":
            self._jobs.log.give_back(session)
        try:
            await app.job_manager.retry_job(job)
        except UniqueViolation:  # the same one waits already
            await app.job_manager.finish_job(job, Status.ABORTED, delete_job=True)
        except ConnectorException:
            pass  # it has ended by itself meanwhile

    def _nothing_left(self) -> bool:
        jobs = f"SELECT FROM procrastinate_jobs WHERE queue_name = '{QUEUE}' AND status IN ('todo', 'doing')"
        with autocommit_connection(self._jobs.engine) as connection:
            return not connection.scalar(text(f"SELECT EXISTS ({jobs})"))


class _Retry(BaseRetryStrategy):
    """Three times as long each time: 3 s, 9 s, 27 s … At once for a job that was only interrupted."""

    def __init__(self, seconds: float):
        self._seconds = seconds

    def wait(self, job: Job) -> float:
        return self._seconds * 3**job.attempts

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        if isinstance(exception, asyncio.CancelledError):
            return RetryDecision(retry_in={"seconds": 0})
        if job.attempts + 1 >= MAX_TRIES:
            return None
        return RetryDecision(retry_in={"seconds": self.wait(job)})


def work(
    jobs: JobQueue, concurrency: int, until_empty: bool, weekly: bool, stop: threading.Event, say: Callable[[str], None]
) -> None:
    """As `Jobs.work` says."""
    report, name = JobReport(), f"worker {os.getpid()}"
    _ = jobs.model  # now: a model that isn't configured ends us here, and no job has to wait for imports
    with _stopped_by_signals(stop):
        say(f"{name} started, {concurrency} at a time")
        while not stop.is_set():
            run = WorkerRun(
                jobs, report=report, concurrency=concurrency, until_empty=until_empty, weekly=weekly, stop=stop, say=say
            )
            try:
                run.run()
                why = "its connections were lost"
            except Exception as error:
                if isinstance(error, WorkbookError) and not isinstance(error, DatabaseUnavailable):
                    raise
                why = reason(error)
            if not stop.is_set():
                say(f"interrupted, starts again in {PAUSE_SECONDS:g} s: {why}")
                stop.wait(PAUSE_SECONDS)
        say(f"{name} stopped: {report.extracted} extracted, {report.failed} failed, {report.weeks} weeks consolidated")


@contextmanager
def _stopped_by_signals(stop: threading.Event) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    names = [name for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name)]  # the last one on Windows
    before = {name: signal.signal(getattr(signal, name), lambda *_: stop.set()) for name in names}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)


async def _in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    """As asyncio.to_thread, but the end of the loop, or the process, doesn't wait: a model may take minutes."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def settle(end: Callable[[Any], None], value: Any) -> None:
        if not done.done():
            end(value)

    def run() -> None:
        try:
            outcome = (done.set_result, function(*arguments))
        except BaseException as error:
            outcome = (done.set_exception, error)
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, *outcome)

    threading.Thread(target=run, daemon=True).start()
    return await done
