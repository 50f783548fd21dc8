"""What waits to be worked off: handing it in, finding what was lost, and what the work of one job is."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from procrastinate import App, SyncPsycopgConnector
from procrastinate.exceptions import AlreadyEnqueued, ConnectorException
from sqlalchemy import Connection, Engine, text

from lib.checks import checked_number
from lib.database import QUEUE, check_job_tables
from lib.database.tables import as_utc, utcnow
from lib.database.transactions import autocommit_connection, hold_user, write_transaction
from lib.errors import DatabaseUnavailable
from lib.formation import monday_of, users_with_episodes
from lib.formation.consolidation import consolidate
from lib.formation.extraction import MAX_CLAIMS, ExtractionReport, extract_claimed
from lib.formation.session_log import SessionLog
from lib.llm.chat import chat_model
from lib.store.memory_store import MemoryStore

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

EXTRACT, CONSOLIDATE = "workbook:extract", "workbook:consolidate"  # names of tasks
MAX_TRIES = MAX_CLAIMS - 1  # of a conversation, or a week
MIN_SECONDS, MAX_SECONDS = 0.0001, 86_400  # of what a worker waits for; a day

# What waits for a worker, and for which there is no job: it was lost, or never made.
_WITHOUT_JOB = """
SELECT CAST(id AS text), user_id FROM sessions
WHERE (state = 'pending' OR state = 'extracting' AND claimed_until <= :now)
  AND NOT EXISTS (
    SELECT FROM procrastinate_jobs AS job
    WHERE job.queueing_lock = 'extract ' || sessions.id AND job.status IN ('todo', 'doing'))
"""


@dataclass
class JobReport:
    """What was worked off."""

    extracted: int = 0  # conversations
    failed: int = 0  # conversations that were marked so
    weeks: int = 0  # of one user each, that were read

    def add(self, more: "JobReport") -> None:
        """Count what is in another report as well."""
        self.extracted += more.extracted
        self.failed += more.failed
        self.weeks += more.weeks


class JobQueue:
    """Hands jobs in, and does the work of each when a worker asks for it; see `Jobs`."""

    def __init__(
        self,
        engine: Engine,
        *,
        model: "BaseChatModel | None" = None,
        now: Callable[[], datetime] = utcnow,
        lease_seconds: float = 300,
        heartbeat_seconds: float = 10,
        poll_seconds: float = 5,
        rules: bool = False,
    ):
        self.heartbeat_seconds = checked_number("heartbeat_seconds", heartbeat_seconds, MIN_SECONDS, MAX_SECONDS)
        self.poll_seconds = checked_number("poll_seconds", poll_seconds, MIN_SECONDS, MAX_SECONDS)
        self.engine, self.rules = engine, rules
        self.log = SessionLog(engine, now=now, lease_seconds=lease_seconds)
        self.store = MemoryStore(engine, now=now)
        self._model, self._now, self._lease_seconds = model, now, lease_seconds
        self.due: list[tuple[str, str]] = []  # on SQLite: the weeks to consolidate, and of whom
        self.on_postgres = engine.dialect.name == "postgresql"
        if self.on_postgres:
            check_job_tables(engine)
            self._app = App(connector=SyncPsycopgConnector())  # never opened: it writes on our connections

    @cached_property
    def model(self) -> "BaseChatModel":
        """The model that is asked."""
        return chat_model() if self._model is None else self._model

    def session_ended(self, user_id: str, transcript: Iterable[Mapping[str, Any]], **options: Any) -> str:
        """Store a conversation that is over, and the job of extracting it, in one transaction; returns its id.

        All arguments, and the errors, are those of `SessionLog.finish`.
        """
        with write_transaction(self.engine) as connection:
            log = SessionLog(connection, now=self._now, lease_seconds=self._lease_seconds)
            session_id = log.finish(user_id, transcript, **options)
            if self.on_postgres:
                self._defer(connection, EXTRACT, f"extract {session_id}", user_id=user_id, session_id=session_id)
        return session_id

    def week_ended(self, week: date | None = None) -> int:
        """Have the week of every user who has episodes of it consolidated; returns of how many.

        week: as for `consolidate`. Workers call this by themselves each Monday at 03:00 UTC, for the week before.
        """
        users, monday = users_with_episodes(self.store, week), monday_of(self.store, week).date().isoformat()
        if not self.on_postgres:
            self.due += [(monday, user_id) for user_id in users if (monday, user_id) not in self.due]
            return len(users)
        for user_id in users:
            with write_transaction(self.engine) as connection:
                if hold_user(connection, user_id):  # else they were forgotten meanwhile
                    lock = f"consolidate {monday} {user_id}"
                    self._defer(connection, CONSOLIDATE, lock, user_id=user_id, week=monday)
        return len(users)

    def sweep(self) -> int:
        """Make the missing jobs of conversations that wait for a worker; returns how many."""
        with autocommit_connection(self.engine) as connection:
            without_job = connection.execute(text(_WITHOUT_JOB), {"now": as_utc(self._now())}).all()
        for session_id, user_id in without_job:
            with write_transaction(self.engine) as connection:
                if hold_user(connection, user_id):
                    self._defer(connection, EXTRACT, f"extract {session_id}", user_id=user_id, session_id=session_id)
        return len(without_job)

    def _defer(self, connection: Connection, task: str, lock: str, **arguments: str) -> None:
        """Make a job in the transaction of this connection, unless the same one waits already."""
        driver = connection.connection.dbapi_connection
        job = self._app.configure_task(task, queue=QUEUE, queueing_lock=lock, connection=driver)
        try:
            with suppress(AlreadyEnqueued), connection.begin_nested():
                job.defer(**arguments)
        except ConnectorException as error:
            raise DatabaseUnavailable(
                f"the job could not be stored: {error.__cause__}. It happened whole or not at all; call again."
            ) from error

    # --- the work of one job. One that has lost its arguments is of a user who was forgotten while it ran. ---

    def extract(self, session_id: str | None = None, user_id: str | None = None) -> JobReport:
        """Extract a conversation, unless it is done, gone, failed or in other hands.

        After an error it waits again, and the error is raised; after many, it is marked failed.
        """
        session = None if session_id is None else self.log.claim(session_id=session_id)
        if session is None:  # if those who have it in hand don't finish it, `sweep` makes a new job
            return JobReport()
        report = ExtractionReport()
        try:
            extract_claimed(self.log, self.store, self.model, session, report, self.rules)
        except Exception as error:
            self.log.give_back(session)
            if session.attempts % MAX_CLAIMS != MAX_TRIES:
                raise
            # Claimed once more: `extract_claimed` gives up there, too, so `retry_failed` begins a new count.
            if last := self.log.claim(session_id=session_id):
                self.log.fail(last, f"it was tried {MAX_TRIES} times; the last time: {error!r}")
            report.failed += 1
        return JobReport(report.extracted, report.failed)

    def consolidate(self, week: str | None = None, user_id: str | None = None) -> JobReport:
        """Consolidate a user's week. week: the date of its Monday."""
        if week is None or user_id is None:
            return JobReport()
        done = consolidate(self.store, user_id, self.model, week=date.fromisoformat(week), rules=self.rules)
        return JobReport(weeks=int(done.episodes > 0))
