"""Background work: a conversation that is over is a job, a user's week of episodes is one, and any worker takes it.

On PostgreSQL Procrastinate keeps the jobs, and as many processes as you like work them off; on SQLite, this one does.
A job is only a nudge. What is done and what isn't, the sessions say (`SessionLog`), and the record of the weeks that
were read (`lib.formation.consolidation`): so a job may be lost, or run twice, and nothing is lost or done twice.
"""

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress

from lib.checks import checked_number
from lib.errors import InvalidInput
from lib.formation.extraction import extract_pending
from lib.jobs._queue import JobQueue, JobReport
from lib.jobs._worker import WorkerRun

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
            WorkerRun(self, report, wait=False).run()
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
                    WorkerRun(self, report, True, concurrency, weekly, stop, say).run()
                    why = "its connections were lost"
                except Exception as error:
                    why = repr(error)
                if not stop.is_set():
                    say(f"interrupted, starts again in {PAUSE_SECONDS:g} s: {why}")
                    stop.wait(PAUSE_SECONDS)
        say(f"{name} stopped: {report.extracted} extracted, {report.failed} failed, {report.weeks} weeks consolidated")
