"""Finished conversations as durable rows: handed in once, claimed by one worker at a time, completed once."""

import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Engine, Select, func, or_, select, text, update
from sqlalchemy.dialects import postgresql, sqlite

from lib.database.tables import SESSION_STATES, USER_ID_LENGTH, ConversationSession, as_utc, new_id, utcnow
from lib.database.transactions import add_user, autocommit_connection, hold_user, write_transaction
from lib.errors import ClaimLost, InvalidInput, shown
from lib.store.filters import of_user
from lib.store.items import FinishedSession, SessionList
from lib.store.values import check_name, prepare

SPEAKERS = ("user", "assistant")
MAX_COUNT = 2**31 - 1  # sessions in a list, and the number of a turn
ERROR_LENGTH = 2000  # characters of a reason that are kept

T = TypeVar("T")

_sessions = ConversationSession.__table__
_columns = [
    _sessions.c[name]
    for name in ("id", "user_id", "started_at", "ended_at", "transcript", "state", "attempts", "error", "summary")
]
_finished = select(*_columns, _sessions.c.metadata).where(_sessions.c.state.is_not(None))
# Written out, because a database takes a partial index only for a condition that it can read when it plans.
_may_be_claimed = text("state IN ('pending', 'extracting')")


class SessionLog:
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
        is_number = isinstance(lease_seconds, int | float) and not isinstance(lease_seconds, bool)
        if not is_number or not 0 < lease_seconds <= MAX_COUNT:
            raise InvalidInput(f"lease_seconds must be a number above 0, not {shown(lease_seconds)}.")
        self._engine = engine
        self._now = now
        self._lease = timedelta(seconds=lease_seconds)

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
        given = {} if started_at is None else {"started_at": as_utc(started_at)}
        if given.get("started_at", ended) > ended:
            raise InvalidInput(f"started_at is after ended_at: {started_at} and {ended}. Swap them?")
        content = _checked(transcript, {} if details is None else details)
        if details is not None:
            given["metadata"] = content["details"]
        row = {
            "id": new_id() if session_id is None else _checked_id(session_id),
            "user_id": user_id, "ended_at": ended, "transcript": content["transcript"], "state": "pending",
        }  # fmt: skip
        with write_transaction(self._engine) as connection:
            add_user(connection, user_id, now)
            self._insert(connection, {"started_at": ended, "metadata": {}, "attempts": 0, **row, **given}, given)
            ours = select(_sessions.c.id).where(_sessions.c.id == row["id"], of_user(_sessions.c.user_id, user_id))
            if connection.scalar(ours) is None:
                raise InvalidInput(f"session_id {row['id']} is another user's. Leave it out to get a new one.")
        return row["id"]

    def claim(self, user_id: str | None = None, *, session_id: str | None = None) -> FinishedSession | None:
        """Take the oldest pending conversation, or one whose claim has lapsed; None if there is none.

        Two calls never get the same one. Without a user_id the conversations of all users are meant.
        session_id: this one or none.
        """
        now = as_utc(self._now())
        lapsed_or_new = or_(_sessions.c.state == "pending", _sessions.c.claimed_until <= now)
        one = [] if session_id is None else [_sessions.c.id == _checked_id(session_id)]
        oldest = _finished.where(_may_be_claimed, lapsed_or_new, *one, *_of(user_id))
        oldest = oldest.order_by(_sessions.c.ended_at, _sessions.c.id).limit(1).with_for_update(skip_locked=True)
        with write_transaction(self._engine) as connection:
            row = connection.execute(oldest).first()
            if row is None:
                return None
            changes = {"state": "extracting", "attempts": row.attempts + 1, "claimed_until": now + self._lease}
            this = (_sessions.c.id == row.id, _sessions.c.user_id == row.user_id)
            connection.execute(update(_sessions).where(*this).values(changes))
        return FinishedSession(*row[:5], changes["state"], changes["attempts"], *row[7:])

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
        ours = select(_sessions.c.id).where(*_still(claimed)).with_for_update()
        changes: dict[str, Any] = {"error": None}
        if summary is not None:
            changes["summary"] = prepare({"summary": _text(summary, "summary")})[0]["summary"]
        with write_transaction(self._engine) as connection:
            held = hold_user(connection, claimed.user_id)  # before the session and the memories, as everybody does
            if not held or connection.execute(ours).first() is None:
                raise ClaimLost(
                    f"session {claimed.id} is not yours to complete any more (attempt {claimed.attempts}): its claim "
                    "lapsed and was taken, was given up, or its user was forgotten. Nothing was stored; claim the next."
                )
            result = None if write is None else write(connection)
            self._release(connection, claimed, "extracted", changes)
        return result

    def fail(self, claimed: FinishedSession, error: str) -> None:
        """Mark a claimed conversation as failed, with the reason; its transcript stays. A lost claim changes nothing.

        error: any text; characters that can't be stored are replaced, and 2,000 are kept.
        """
        reason = _text(error, "error").encode(errors="replace").decode().replace("\x00", "?")[:ERROR_LENGTH]
        with autocommit_connection(self._engine) as connection:
            self._release(connection, claimed, "failed", {"error": reason or "no reason was given"})

    def give_back(self, claimed: FinishedSession) -> None:
        """Make a claimed conversation pending again, as when a worker has to stop. A lost claim changes nothing."""
        with autocommit_connection(self._engine) as connection:
            self._release(connection, claimed, "pending", {})

    def retry_failed(self, user_id: str | None = None) -> int:
        """Make failed conversations pending again; returns how many. Their attempts and last error stay on them."""
        failed = (_sessions.c.state == "failed", *_of(user_id))
        with autocommit_connection(self._engine) as connection:
            users = connection.scalars(select(_sessions.c.user_id).where(*failed).distinct()).all()
        return sum(map(self._retry_failed_of, sorted(users)))

    def get(self, session_id: str) -> FinishedSession | None:
        """One conversation by its id; None if there is none, or if it isn't over."""
        found = self._read(_finished.where(_sessions.c.id == _checked_id(session_id)))
        return found[0] if found else None

    def list(self, user_id: str | None = None, state: str | None = None, limit: int | None = 100) -> SessionList:
        """Conversations, the last to end first.

        state: pending, extracting, extracted or failed. limit: how many; None for all.
        """
        if state is not None and state not in SESSION_STATES:
            raise InvalidInput(f"state must be one of {', '.join(SESSION_STATES)}, not {shown(state)}.")
        is_count = isinstance(limit, int) and not isinstance(limit, bool) and 0 <= limit <= MAX_COUNT
        if limit is not None and not is_count:
            raise InvalidInput(f"limit must be a whole number from 0 to {MAX_COUNT:,}, not {shown(limit)}.")
        query = _finished.where(*_of(user_id), *([] if state is None else [_sessions.c.state == state]))
        return self._read(query.order_by(_sessions.c.ended_at.desc(), _sessions.c.id.desc()).limit(limit))

    def counts(self, user_id: str | None = None) -> dict[str, int]:
        """How many conversations are in each state, all four of them, in the order in which they pass through."""
        by_state = select(_sessions.c.state, func.count()).where(_sessions.c.state.is_not(None), *_of(user_id))
        with autocommit_connection(self._engine) as connection:
            counted = dict(tuple(row) for row in connection.execute(by_state.group_by(_sessions.c.state)))
        return {state: counted.get(state, 0) for state in SESSION_STATES}

    def _insert(self, connection: Connection, row: dict[str, Any], given: dict[str, Any]) -> None:
        """Insert it; or complete the row with its id, if that is the same user's and of a conversation going on."""
        insert = (postgresql if connection.dialect.name == "postgresql" else sqlite).insert
        replaced = {name: row[name] for name in ("ended_at", "transcript", "state", *given)}
        unfinished = (_sessions.c.state.is_(None), _sessions.c.user_id == row["user_id"])
        connection.execute(
            insert(_sessions).values(row).on_conflict_do_update(
                index_elements=["id"], set_=replaced, where=unfinished[0] & unfinished[1]
            )
        )  # fmt: skip

    def _release(self, connection: Connection, claimed: FinishedSession, state: str, changes: dict[str, Any]) -> None:
        end = update(_sessions).where(*_still(claimed))
        connection.execute(end.values(state=state, claimed_until=None, **changes))

    def _retry_failed_of(self, user_id: str) -> int:
        retry = update(_sessions).where(_sessions.c.user_id == user_id, _sessions.c.state == "failed")
        with write_transaction(self._engine) as connection:
            hold_user(connection, user_id)
            return connection.execute(retry.values(state="pending")).rowcount

    def _read(self, query: Select) -> SessionList:
        with autocommit_connection(self._engine) as connection:
            return SessionList(FinishedSession(*row) for row in connection.execute(query))


def _of(user_id: str | None) -> list[ColumnElement[bool]]:
    return [] if user_id is None else [_sessions.c.user_id == check_name(user_id, "user_id", USER_ID_LENGTH)]


def _still(claimed: FinishedSession) -> tuple[ColumnElement[bool], ...]:
    """The row is as the claim left it. Every claim counts the attempts up and nothing counts them down."""
    if not isinstance(claimed, FinishedSession):
        raise InvalidInput(f"this needs what claim() returned, not {shown(claimed)}.")
    return (
        _sessions.c.id == claimed.id,
        _sessions.c.user_id == claimed.user_id,
        _sessions.c.state == "extracting",
        _sessions.c.attempts == claimed.attempts,
    )


def _checked(transcript: Iterable[Mapping[str, Any]], details: Mapping[str, Any]) -> dict[str, Any]:
    """{"transcript": …, "details": …} as they are stored; InvalidInput, naming the turn, if they can't be."""
    if isinstance(transcript, str | Mapping) or not isinstance(transcript, Iterable):
        raise InvalidInput(f"a transcript must be a list of turns, not {shown(transcript)}.")
    if not isinstance(details, Mapping):
        raise InvalidInput(f"details must be a dict, not {shown(details)}.")
    turns = [dict(turn) if isinstance(turn, Mapping) else turn for turn in transcript]
    if not turns:
        raise InvalidInput("the transcript is empty: nobody said anything, so there is nothing to hand in.")
    numbers = set()
    for place, turn in enumerate(turns):
        if problem := _problem(turn, numbers):
            raise InvalidInput(f"transcript[{place}] {problem}")
        numbers.add(turn["turn"])
    return prepare({"transcript": turns, "details": dict(details)})[0]


def _problem(turn: Any, earlier: set[int]) -> str | None:
    if not isinstance(turn, dict) or not {"turn", "speaker", "text"} <= turn.keys():
        return f"must be a dict with turn, speaker and text, not {shown(turn)}."
    number = turn["turn"]
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= MAX_COUNT:
        return f"has the turn {shown(number)}; use whole numbers from 0 on."
    if number in earlier:
        return f"has the turn {number}, as one before it: a memory couldn't say which of them it comes from."
    if turn["speaker"] not in SPEAKERS:
        return f"has the speaker {shown(turn['speaker'])}; use one of {', '.join(SPEAKERS)}."
    return None if isinstance(turn["text"], str) else f"has the text {shown(turn['text'])}; use a text."


def _checked_id(session_id: str) -> str:
    try:
        return str(uuid.UUID(_text(session_id, "session_id")))
    except ValueError:
        raise InvalidInput(
            f"session_id must be a UUID, not {shown(session_id)}. Leave it out to get one; to give a name of your own "
            "an id that is always the same, use str(uuid.uuid5(uuid.NAMESPACE_URL, name))."
        ) from None


def _text(text: str, name: str) -> str:
    if not isinstance(text, str):
        raise InvalidInput(f"{name} must be a text, not {type(text).__name__}: {shown(text)}.")
    return text
