"""Finished conversations as durable rows: handed in once, claimed by one worker at a time, completed once."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, or_, select, update

from lib.checks import checked_number
from lib.database.tables import USER_ID_LENGTH, as_utc, new_id, utcnow
from lib.database.transactions import add_user, autocommit_connection, hold_user, write_transaction
from lib.errors import ClaimLost, InvalidInput
from lib.formation._session_rows import (
    MAX_COUNT,
    MAY_BE_CLAIMED,
    FinishedSession,
    SessionQueries,
    checked_conversation,
    checked_id,
    checked_text,
    end_claim,
    finished_sessions,
    insert_or_complete,
    of_user_or_all,
    sessions,
    still_claimed,
)
from lib.store import of_user
from lib.store.values import check_name, prepare

ERROR_LENGTH = 2000  # characters of a reason that are kept
MIN_LEASE = 0.001  # seconds

T = TypeVar("T")


class SessionLog(SessionQueries):
    """Conversations that are over, and how far the extraction of their memories has come.

    A worker claims one, thinks about it as long as it likes with no transaction open, and completes it: what it
    writes and the mark that it is done are one transaction. A worker that dies leaves a claim that lapses; one that
    was slower than its claim is told so (ClaimLost), and nothing of its work is kept. So each is completed once.

    lease_seconds: how long a claim lasts; longer than an extraction takes, and short enough to wait for after a crash.
    now: the time, for the ends of claims as well: workers on several computers need clocks that agree to a second.
    engine: given a connection within a transaction instead, all calls are a part of that.

    Every call about a user names that user in its queries; without a user_id, `claim`, `retry_failed`, `list`,
    `counts` and always `get` are about all users: they are for workers and operators, not for a user's requests.

    >>> from lib.database.engine import connect, create_tables
    >>> engine = connect("sqlite://")
    >>> create_tables(engine)
    >>> log = SessionLog(engine)
    >>> session_id = log.finish("ada", [{"turn": 1, "speaker": "user", "text": "I moved to Rome."}])
    >>> claimed = log.claim()
    >>> log.complete(claimed, summary="Ada moved.")
    >>> log.get(session_id).state
    'extracted'
    """

    def __init__(
        self, engine: Engine | Connection, *, now: Callable[[], datetime] = utcnow, lease_seconds: float = 300
    ):
        super().__init__(engine)
        self._now = now
        self._lease = timedelta(seconds=checked_number("lease_seconds", lease_seconds, MIN_LEASE, MAX_COUNT))

    def finish(
        self,
        user_id: str,
        transcript: Iterable[Mapping[str, Any]],
        *,
        started_at: datetime | None = None,
        ended_at: datetime | None = None,
        session_id: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> str:
        """Store a conversation that is over as pending; returns its id. An unknown user is added.

        transcript: at least one dict with turn (a whole number, no two alike), speaker ("user" or "assistant") and
            text; with its details at most 10 MB of JSON.
        started_at, ended_at: aware; without them, the end is now and the start is the end.
        session_id: a UUID. Handing in the same one again changes nothing; so give one to be able to call again after
            a DatabaseUnavailable, or the conversation may be kept twice. One that was begun as a
            `ConversationSession` is completed, and keeps its start and details if none are given.
        Errors: InvalidInput, before anything is stored.
        """
        check_name(user_id, "user_id", USER_ID_LENGTH)
        now = as_utc(self._now())
        ended = now if ended_at is None else as_utc(ended_at)
        started = ended if started_at is None else as_utc(started_at)
        if started > ended:
            raise InvalidInput(f"started_at is after ended_at: {started_at} and {ended}. Swap them?")
        content = checked_conversation(transcript, {} if details is None else details)
        row = {
            "id": new_id() if session_id is None else checked_id(session_id),
            "user_id": user_id,
            "started_at": started,
            "ended_at": ended,
            "transcript": content["transcript"],
            "metadata": content["details"],
            "state": "pending",
            "attempts": 0,
        }
        given = [*(["started_at"] if started_at is not None else []), *(["metadata"] if details is not None else [])]
        ours = select(sessions.c.id).where(sessions.c.id == row["id"], of_user(sessions.c.user_id, user_id))
        with write_transaction(self._engine) as connection:
            add_user(connection, user_id, now)
            insert_or_complete(connection, row, given)
            if connection.scalar(ours) is None:
                raise InvalidInput(f"session_id {row['id']} is another user's. Leave it out to get a new one.")
        return str(row["id"])

    def claim(self, user_id: str | None = None, *, session_id: str | None = None) -> FinishedSession | None:
        """Take the oldest pending conversation, or one whose claim has lapsed; None if there is none.

        Two calls never get the same one. Without a user_id the conversations of all users are meant.
        session_id: this one or none.
        """
        now = as_utc(self._now())
        waits = or_(sessions.c.state == "pending", sessions.c.claimed_until <= now)
        oldest = finished_sessions.where(MAY_BE_CLAIMED, waits, *of_user_or_all(user_id))
        if session_id is not None:
            oldest = oldest.where(sessions.c.id == checked_id(session_id))
        oldest = oldest.order_by(sessions.c.ended_at, sessions.c.id).limit(1)
        with write_transaction(self._engine) as connection:
            # SKIP LOCKED: a row that another worker is just taking is passed over, and not waited for.
            row = connection.execute(oldest.with_for_update(skip_locked=True)).first()
            if row is None:
                return None
            claimed = replace(FinishedSession(*row), state="extracting", attempts=row.attempts + 1)
            this = (sessions.c.id == claimed.id, sessions.c.user_id == claimed.user_id)
            changes = {"state": claimed.state, "attempts": claimed.attempts, "claimed_until": now + self._lease}
            connection.execute(update(sessions).where(*this).values(changes))
        return claimed

    def complete(
        self,
        claimed: FinishedSession,
        *,
        summary: str | None = None,
        write: Callable[[Connection], T] | None = None,
    ) -> T | None:
        """Mark a claimed conversation as extracted, in one transaction with what `write` writes; returns its result.

        write: gets the transaction's connection, for `store.in_transaction(connection)`. It should only write:
            what takes long, such as asking a model, belongs before this call, as others may wait for the transaction.
        summary: None keeps the one that there is.
        Errors: ClaimLost, if the claim lapsed and was taken, was given up, or the user was forgotten; what `write`
            raises. After an error nothing is kept. A claim that lapsed but wasn't taken is still good.
        """
        ours = select(sessions.c.id).where(still_claimed(claimed)).with_for_update()
        changes: dict[str, Any] = {"error": None}
        if summary is not None:
            changes["summary"] = prepare({"summary": checked_text(summary, "summary")})[0]["summary"]
        with write_transaction(self._engine) as connection:
            held = hold_user(connection, claimed.user_id)  # before the session and the memories, as everybody does
            if not held or connection.execute(ours).first() is None:
                raise ClaimLost(
                    f"session {claimed.id} is not yours to complete any more (attempt {claimed.attempts}): its claim "
                    "lapsed and was taken, was given up, or its user was forgotten. Nothing was stored; claim the next."
                )
            result = None if write is None else write(connection)
            end_claim(connection, claimed, "extracted", **changes)
        return result

    def fail(self, claimed: FinishedSession, error: str) -> None:
        """Mark a claimed conversation as failed, with the reason; its transcript stays. A lost claim changes nothing.

        error: any text; characters that can't be stored are replaced, and 2,000 are kept.
        """
        reason = checked_text(error, "error").encode(errors="replace").decode().replace("\x00", "?")[:ERROR_LENGTH]
        with autocommit_connection(self._engine) as connection:
            end_claim(connection, claimed, "failed", error=reason or "no reason was given")

    def give_back(self, claimed: FinishedSession) -> None:
        """Make a claimed conversation pending again, as when a worker has to stop. A lost claim changes nothing."""
        with autocommit_connection(self._engine) as connection:
            end_claim(connection, claimed, "pending")
