"""Background work: a conversation that is over is a job, a user's week of episodes is one, and any worker takes it.

On PostgreSQL Procrastinate keeps the jobs, and as many processes as you like work them off; on SQLite, this one does.
A job is only a nudge. What is done and what isn't, the sessions say (`SessionLog`), and the record of the weeks that
were read (`lib.formation.consolidation`): so a job may be lost, or run twice, and nothing is lost or done twice.
"""

import asyncio
import math
import os
import signal
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from procrastinate import App, JobContext, PsycopgConnector, RetryStrategy
from procrastinate.exceptions import ConnectorException
from procrastinate.worker import Worker
from sqlalchemy import make_url

from lib.checks import checked_number
from lib.database import QUEUE, is_marked, url_of, without_mark
from lib.database.engine import CONNECT_TIMEOUT_SECONDS
from lib.errors import DatabaseUnavailable, InvalidInput
from lib.formation.extraction import extract_pending
from lib.jobs._queue import CONSOLIDATE, EXTRACT, MAX_TRIES, JobQueue, JobReport

TEND, WEEKLY, EACH_MONDAY = "workbook:tend", "workbook:weekly", "0 3 * * 1"  # 03:00; Procrastinate goes by UTC
# A Monday on which no worker ran at 03:00 is made up for by the next one to start.
MAX_DELAY = timedelta(days=7)
RETRY = RetryStrategy(max_attempts=MAX_TRIES - 1, exponential_wait=3)  # 3 s, 9 s …: in all 2 hours and 44 minutes
AT_ONCE = RetryStrategy(max_attempts=MAX_TRIES - 1)
MISSED_HEARTBEATS = 3
TICK_SECONDS = 0.1  # between looks at whether to stop
PAUSE_SECONDS = 2.0  # before a worker that lost the database starts again


class Jobs(JobQueue):
    """Extraction after each conversation and consolidation after each week, by whichever worker is free.

    engine: with `create_tables` and, on PostgreSQL, `create_job_tables` called.
    model: None for the one that `chat_model()` gives, when it is first needed.
    now, lease_seconds: as for `SessionLog`. Procrastinate goes by the database's clock.
    heartbeat_seconds: how often a worker says that it lives. The others take a worker that has missed three for dead,
        free what it had in hand, and look so often for what has no job. The same for all workers of one database.
    poll_seconds: how often a worker asks whether the wait of a job is over. Of new jobs it hears at once, by LISTEN,
        but not behind a pooler that lends connections for a transaction (`connect` tells how it knows one).
    rules: as for `extract_pending` and `consolidate`.

    A job that failed is tried again after 3 seconds, then after 9, 27, and so on. After nine tries a conversation is
    marked failed with the reason, and `SessionLog.retry_failed` gives it nine more.

    >>> from lib.database.engine import connect, create_tables
    >>> engine = connect("sqlite://")
    >>> create_tables(engine)
    >>> jobs = Jobs(engine)
    >>> session_id = jobs.session_ended("ada", [{"turn": 1, "speaker": "user", "text": "I live in Rome."}])
    >>> jobs.run_waiting().extracted
    1
    """

    def run_waiting(self) -> JobReport:
        """Work off what waits now, in this process, and return; also within a notebook's event loop.

        What others have in hand, or what is to be tried again later, isn't waited for. When the model can't be
        reached, what was in hand waits again and the error is raised: the others would only fail, too.
        """
        report = JobReport()
        if self.on_postgres:
            _WorkerRun(self, report, wait=False).run()
            return report
        done = extract_pending(self.log, self.store, self.model, rules=self.rules)
        report.add(JobReport(done.extracted, done.failed))
        while self.due:
            report.add(self.consolidate(*self.due[0]))
            self.due.pop(0)
        return report

    def work(
        self,
        *,
        concurrency: int = 1,
        weekly: bool = True,
        stop: threading.Event | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        """Be a worker until SIGTERM, SIGINT (Ctrl-C) or `stop`: the job in hand is finished, then it leaves.

        Who can't wait for that may kill it: another worker does the job, as after any death.
        concurrency: jobs at a time, each in a thread. weekly: make the weekly jobs; of all workers one does, once.
        say: gets a line at the start, at the end, and for each failure.
        A lost database doesn't end it: it starts again when there is one. Errors: InvalidInput on SQLite.
        """
        if not self.on_postgres:
            raise InvalidInput(
                "workers need PostgreSQL, where many processes can share the jobs, and this is SQLite. Set "
                "POSTGRES_URL, or call Jobs(engine).run_waiting(), which does the same work in this process."
            )
        checked_number("concurrency", concurrency, 1, whole=True)
        report, name, stop = JobReport(), f"worker {os.getpid()}", stop or threading.Event()
        _ = self.model  # now: a model that isn't configured ends us here, and no job has to wait for imports
        say(f"{name} started, {concurrency} at a time")
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C does: KeyboardInterrupt
        with suppress(KeyboardInterrupt):
            while not stop.is_set():
                try:
                    _WorkerRun(self, report, True, concurrency, weekly, stop, say).run()
                    why = "its connections were lost"
                except Exception as error:
                    why = repr(error)
                if not stop.is_set():
                    say(f"interrupted, starts again in {PAUSE_SECONDS:g} s: {why}")
                    stop.wait(PAUSE_SECONDS)
        say(f"{name} stopped: {report.extracted} extracted, {report.failed} failed, {report.weeks} weeks consolidated")


@dataclass
class _WorkerRun:
    """One run of Procrastinate's worker with tasks of ours, until it is told to stop or loses the database.

    On an event loop in a thread of its own, because a notebook has one already; on a selector's loop, because psycopg
    has no use for the one that Windows prefers.
    """

    jobs: JobQueue
    report: JobReport  # counts what is done
    wait: bool = True  # for jobs; else it leaves when none is ready, or one fails
    concurrency: int = 1
    weekly: bool = False
    stop: threading.Event = field(default_factory=threading.Event)
    say: Callable[[str], None] = lambda line: None

    def __post_init__(self) -> None:
        self._error: Exception | None = None
        self._retry = RETRY if self.wait else AT_ONCE
        self._dead_after = MISSED_HEARTBEATS * self.jobs.heartbeat_seconds

    def run(self) -> None:
        """Work, and return at the end. Errors: of the job that ended it, without `wait`; lost connections."""
        with ThreadPoolExecutor(1) as pool:
            try:
                done = pool.submit(self._run_loop)
                while not done.done():
                    wait([done], timeout=TICK_SECONDS)  # in steps: Ctrl-C doesn't end a longer wait on Windows
            except BaseException:
                self.stop.set()
                raise
        done.result()

    def _run_loop(self) -> None:
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.get_loop().set_exception_handler(self._job_lost)
            runner.get_loop().set_default_executor(ThreadPoolExecutor(self.concurrency + 1))
            runner.run(self._serve())

    async def _serve(self) -> None:
        async with self._app().open_async() as app:
            self._manager = app.job_manager
            self._worker = Worker(
                app,
                queues=[QUEUE],
                wait=self.wait,
                concurrency=self.concurrency,
                delete_jobs="successful",  # what has ended leaves no row with a user's name
                listen_notify=not is_marked(self.jobs.engine),
                fetch_job_polling_interval=self.jobs.poll_seconds,
                update_heartbeat_interval=self.jobs.heartbeat_seconds,
                stalled_worker_timeout=self._dead_after,
                worker_middleware=[self._count],
                install_signal_handlers=False,  # they would need the main thread, and don't work on Windows
            )
            await self._tend()
            working = asyncio.create_task(self._worker.run())
            while True:
                await asyncio.wait([working], timeout=TICK_SECONDS)
                if working.done() or self._error or self.stop.is_set():
                    break
            self._worker.stop()  # what is in hand is finished
            await working
        if self._error is not None:
            raise self._error

    def _app(self) -> App:
        engine = self.jobs.engine
        options: dict[str, Any] = {"connect_timeout": CONNECT_TIMEOUT_SECONDS}
        options |= engine.dialect.create_connect_args(without_mark(make_url(url_of(engine))))[1]
        if is_marked(engine):
            options["prepare_threshold"] = None
        connector = PsycopgConnector(kwargs=options, min_size=1)
        app = App(connector=connector, periodic_defaults={"max_delay": MAX_DELAY.total_seconds()})
        app.task(name=EXTRACT, queue=QUEUE, retry=self._retry)(self.jobs.extract)
        app.task(name=CONSOLIDATE, queue=QUEUE, retry=self._retry)(self.jobs.consolidate)
        weekly = app.task(name=WEEKLY, queue=QUEUE, retry=self._retry)(self._week_ended)
        # Before all that waits, or the jobs of a dead worker would come last.
        tend = app.task(name=TEND, queue=QUEUE, queueing_lock=TEND, priority=1)(self._tend)
        if self.wait:
            app.periodic(cron=f"* * * * * */{min(30, math.ceil(self._dead_after))}")(tend)
        if self.weekly:
            app.periodic(cron=EACH_MONDAY)(weekly)
        return app

    def _week_ended(self, timestamp: int) -> None:
        self.jobs.week_ended(datetime.fromtimestamp(timestamp, UTC) - timedelta(days=7))  # the plan's: this may be late

    async def _tend(self, timestamp: int = 0) -> None:
        """Free what dead workers had in hand, and make the jobs that are missing."""
        for job in await self._manager.get_stalled_jobs(queue=QUEUE, seconds_since_heartbeat=self._dead_after):
            if job.worker_id is not None and job.worker_id == self._worker.worker_id:
                continue  # our own heartbeat is late, but we live
            session_id = job.task_kwargs.get("session_id")
            if session_id and (session := self.jobs.log.get(str(session_id))):
                # Without waiting until the claim lapses. An owner who lives after all learns of it, and stores nothing.
                self.jobs.log.give_back(session)
            with suppress(ConnectorException):  # it has ended meanwhile, or the same one waits already
                await self._manager.retry_job(job)
        await asyncio.to_thread(self.jobs.sweep)

    async def _count(self, work: Callable[[], Awaitable[Any]], context: JobContext, worker: Worker) -> None:
        """Have a job done, count it, and tell of failures."""
        arguments = context.job.task_kwargs
        name = f"{context.job.task_name} {arguments.get('session_id') or arguments.get('week') or ''}"
        try:
            done = await work()
        except Exception as error:
            self.say(f"{name}, try {context.job.attempts + 1}: {error!r}")
            if not self.wait:
                self._error = self._error or error
                worker.stop()
            raise
        if isinstance(done, JobReport):
            self.report.add(done)
            if done.failed and (session := self.jobs.log.get(str(arguments["session_id"]))):
                self.say(f"{name} is marked failed: {session.error}")

    def _job_lost(self, _: asyncio.AbstractEventLoop, event: dict[str, Any]) -> None:
        """Leave when a job's end could not be stored: as long as we live, nobody else would take it for stalled."""
        error = event.get("exception")
        cause = getattr(error, "__cause__", None) or error  # Procrastinate's own says "Database error", and no more
        self._error = self._error or DatabaseUnavailable(f"a job's end could not be stored: {cause}.")
