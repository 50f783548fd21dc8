"""What waits to be worked off: handing it in, finding what was lost, and what the work of one job is."""

import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, text

from lib.checks import checked_number
from lib.database import QUEUE, check_job_tables, is_marked
from lib.database.tables import as_utc, utcnow
from lib.database.transactions import autocommit_connection, hold_user, write_transaction
from lib.errors import DatabaseUnavailable
from lib.formation import users_with_episodes
from lib.formation.consolidation import Consolidated, consolidate
from lib.formation.extraction import MAX_CLAIMS, ExtractionReport, extract_claimed
from lib.formation.session_log import SessionLog
from lib.store.items import FinishedSession
from lib.store.memory_store import MemoryStore

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

EXTRACT, CONSOLIDATE = "workbook:extract", "workbook:consolidate"  # names of tasks
MAX_TRIES = MAX_CLAIMS - 1  # of one conversation, or one week; the waits between them make 2 hours and 44 minutes
SHOWN_REASON = 200  # characters
MIN_SECONDS, MAX_SECONDS = 0.0001, 86_400  # of what a worker waits for; a day

# What waits for a worker, and for which there is no job: it was lost, or never made. A running job counts for as long
# as a claim lasts: its worker may have been unable to say how it ended. (Not a join of the events: a database without
# statistics would read all of them.)
_WITHOUT_JOB = """
SELECT CAST(id AS text) AS id, user_id FROM sessions
WHERE state IN ('pending', 'extracting') AND (state = 'pending' OR claimed_until <= :now)
  AND NOT EXISTS (
    SELECT FROM procrastinate_jobs AS job
    WHERE job.queueing_lock = 'extract ' || sessions.id AND job.status = 'todo')
  AND NOT EXISTS (
    SELECT FROM procrastinate_jobs AS job
    WHERE job.queueing_lock = 'extract ' || sessions.id AND job.status = 'doing' AND job.worker_id IS NOT NULL
      AND now() - make_interval(secs => :lease_seconds) < (
        SELECT max(event.at) FROM procrastinate_events AS event WHERE event.job_id = job.id AND event.type = 'started'))
"""


@dataclass
class JobReport(ExtractionReport):
    """What was worked off."""

    weeks: int = 0  # of one user each, that were read
    patterns: int = 0  # found in them, and stored

    def add(self, more: ExtractionReport) -> None:
        """Count what is in another report as well."""
        for name in ("extracted", "failed", "lost_claims"):
            setattr(self, name, getattr(self, name) + getattr(more, name))
        self.memories += more.memories

    def add_week(self, week: Consolidated) -> None:
        """Count a user's week as well, if there was anything to read."""
        self.weeks += week.episodes > 0
        self.patterns += week.stored


class JobQueue:
    """Hands jobs in, and does the work of each when a worker asks for it. `Jobs` is this with somebody who works."""

    def __init__(
        self,
        engine: Engine,
        *,
        model: "BaseChatModel | None" = None,
        now: Callable[[], datetime] = utcnow,
        lease_seconds: float = 300,
        heartbeat_seconds: float = 10,
        retry_seconds: float = 3,
        stop_seconds: float = 20,
        rules: bool = False,
        listen: bool | None = None,
        poll_seconds: float = 5,
    ):
        times = {"heartbeat_seconds": heartbeat_seconds, "retry_seconds": retry_seconds, "poll_seconds": poll_seconds}
        for name, seconds in times.items():
            checked_number(name, seconds, MIN_SECONDS, MAX_SECONDS)
        self.engine = engine
        self.log = SessionLog(engine, now=now, lease_seconds=lease_seconds)
        self.store = MemoryStore(engine, now=now)
        self.heartbeat_seconds, self.retry_seconds, self.stop_seconds = heartbeat_seconds, retry_seconds, stop_seconds
        self.listen, self.poll_seconds = not is_marked(engine) if listen is None else listen, poll_seconds
        self._model, self._model_lock = model, threading.Lock()
        self._now, self._lease_seconds, self.rules = now, lease_seconds, rules
        self.on_postgres = engine.dialect.name == "postgresql"
        self.due: list[tuple[str, date]] = []  # on SQLite: weeks to consolidate
        if self.on_postgres:
            from procrastinate import App, SyncPsycopgConnector

            check_job_tables(engine)
            self._app = App(connector=SyncPsycopgConnector())  # never opened: it writes on our connections

    def session_ended(self, user_id: str, transcript: Iterable[Mapping[str, Any]], **options: Any) -> str:
        """Store a conversation that is over, and the job of extracting it, in one transaction; returns its id.

        All arguments, and the errors, are those of `SessionLog.finish`.
        """
        with write_transaction(self.engine) as connection:
            log = SessionLog(connection, now=self._now, lease_seconds=self._lease_seconds)
            session_id = log.finish(user_id, transcript, **options)
            is_new = options.get("session_id") is None
            if self.on_postgres and (is_new or self._without_job(connection, session_id)):
                self._defer_extraction(connection, user_id, session_id)
        return session_id

    def week_ended(self, week: date | None = None) -> int:
        """Have the week of every user who has episodes of it consolidated; returns of how many.

        week: as for `consolidate`. Workers call this by themselves each Monday at 03:00 UTC, for the week before.
        """
        users = users_with_episodes(self.store, week)
        day = self.store.now().date() - timedelta(days=7) if week is None else week
        monday = (as_utc(day).date() if isinstance(day, datetime) else day) - timedelta(days=day.weekday())
        if not self.on_postgres:
            self.due += [(user_id, monday) for user_id in users if (user_id, monday) not in self.due]
            return len(users)
        for user_id in users:
            with write_transaction(self.engine) as connection:
                if hold_user(connection, user_id):  # else they were forgotten meanwhile
                    args = {"user_id": user_id, "week": monday.isoformat()}
                    self._defer(connection, CONSOLIDATE, f"consolidate {monday} {user_id}", args)
        return len(users)

    @property
    def model(self) -> "BaseChatModel":
        """The model that is asked."""
        with self._model_lock:
            if self._model is None:
                from lib.llm.chat_model import chat_model

                self._model = chat_model()
            return self._model

    def extract(self, session: FinishedSession, report: ExtractionReport) -> None:
        """The work of one job: extract a conversation that was claimed."""
        extract_claimed(self.log, self.store, self.model, session, report, self.rules)

    def consolidate_week(self, user_id: str, monday: date) -> Consolidated:
        """The work of one job: consolidate a user's week."""
        return consolidate(self.store, user_id, self.model, week=monday, rules=self.rules)

    def postpone(self, session: FinishedSession, error: Exception) -> bool:
        """Give a claimed conversation back after an error, or, after many tries, mark it failed: False then."""
        self.log.give_back(session)
        if session.attempts % MAX_CLAIMS != MAX_TRIES:
            return True
        # Claimed once more: `extract_claimed` gives up there, too, so `retry_failed` begins a new count.
        if last := self.log.claim(session_id=session.id):
            self.log.fail(last, f"it was tried {MAX_TRIES} times; the last time: {reason(error)}")
        return False

    def sweep(self) -> int:
        """Make the missing jobs of conversations that wait for a worker; returns how many."""
        with autocommit_connection(self.engine) as connection:
            found = self._without_job(connection)
        for session_id, user_id in found:
            with write_transaction(self.engine) as connection:
                if hold_user(connection, user_id) and self._without_job(connection, session_id):
                    self._defer_extraction(connection, user_id, session_id)
        return len(found)

    def _without_job(self, connection: Connection, session_id: str | None = None) -> list[tuple[str, str]]:
        one = "" if session_id is None else "AND id = CAST(:session_id AS uuid)"
        values = {"now": as_utc(self._now()), "lease_seconds": self._lease_seconds, "session_id": session_id}
        return [tuple(row) for row in connection.execute(text(_WITHOUT_JOB + one), values)]

    def _defer_extraction(self, connection: Connection, user_id: str, session_id: str) -> None:
        self._defer(connection, EXTRACT, f"extract {session_id}", {"user_id": user_id, "session_id": session_id})

    def _defer(self, connection: Connection, task: str, lock: str, args: dict[str, str]) -> None:
        """Make a job in the transaction of this connection, unless the same one waits already."""
        from procrastinate.exceptions import AlreadyEnqueued, ConnectorException

        driver = connection.connection.dbapi_connection
        job = self._app.configure_task(task, queue=QUEUE, queueing_lock=lock, connection=driver)
        try:
            with suppress(AlreadyEnqueued), connection.begin_nested():
                job.defer(**args)
        except ConnectorException as error:
            raise DatabaseUnavailable(
                f"the job could not be stored: {error.__cause__}. It happened whole or not at all; call again."
            ) from error


def reason(error: BaseException) -> str:
    """An error as one line.

    >>> reason(ValueError("no"))
    'ValueError: no'
    """
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:SHOWN_REASON]
