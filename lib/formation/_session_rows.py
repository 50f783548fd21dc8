"""Rows of the session log: what may be handed in, how a claim is held, and what operators ask."""

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast

from sqlalchemy import ColumnElement, Connection, Engine, Select, Table, func, select, text, update
from sqlalchemy.dialects import postgresql, sqlite

from lib.checks import checked_number
from lib.database.tables import SESSION_STATES, USER_ID_LENGTH, ConversationSession
from lib.database.transactions import autocommit_connection, hold_user, write_transaction
from lib.errors import InvalidInput, shown
from lib.records import RecordList
from lib.store.items import when
from lib.store.values import check_name, prepare

SPEAKERS = ("user", "assistant")
MAX_COUNT = 2**31 - 1  # sessions in a list, and the number of a turn

sessions = cast(Table, ConversationSession.__table__)
_COLUMNS = (
    "id",
    "user_id",
    "started_at",
    "ended_at",
    "transcript",
    "state",
    "attempts",
    "error",
    "summary",
    "metadata",
)
finished_sessions = select(*[sessions.c[name] for name in _COLUMNS]).where(sessions.c.state.is_not(None))
# Written out, because a database takes a partial index only for a condition that it can read when it plans.
MAY_BE_CLAIMED = text("state IN ('pending', 'extracting')")


@dataclass(frozen=True, slots=True)
class FinishedSession:
    """One conversation that is over, as it was when it was read."""

    id: str  # a UUID
    user_id: str
    started_at: datetime  # aware, UTC
    ended_at: datetime  # aware, UTC
    transcript: list[dict[str, Any]] = field(hash=False)  # dicts with turn, speaker and text
    state: str  # pending, extracting, extracted or failed
    attempts: int  # how often it was claimed
    error: str | None  # why it failed last
    summary: str | None
    details: dict[str, Any] = field(hash=False)

    def _repr_html_(self) -> str:
        return SessionList([self])._repr_html_()


class SessionList(RecordList[FinishedSession]):
    """A list of conversations. In a notebook it shows as a table."""

    columns = ("user_id", "ended_at (UTC)", "turns", "state", "attempts", "summary or error")
    nothing = "no sessions"

    @staticmethod
    def row(record: FinishedSession) -> tuple[Any, ...]:
        result = record.error or record.summary or ""
        ended_at, turns = when(record.ended_at), len(record.transcript)
        return record.user_id, ended_at, turns, record.state, record.attempts, result


def insert_or_complete(connection: Connection, row: dict[str, Any], given: Iterable[str]) -> None:
    """Insert a session; or complete the row with its id, if that is the same user's and of a conversation going on.

    given: further columns to replace then.
    """
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    replaced = {name: row[name] for name in ("ended_at", "transcript", "state", *given)}
    goes_on = sessions.c.state.is_(None) & (sessions.c.user_id == row["user_id"])
    new = insert(sessions).values(row)
    connection.execute(new.on_conflict_do_update(index_elements=["id"], set_=replaced, where=goes_on))


def still_claimed(claimed: FinishedSession) -> ColumnElement[bool]:
    """The row is as the claim left it. Every claim counts the attempts up and nothing counts them down."""
    if not isinstance(claimed, FinishedSession):
        raise InvalidInput(f"this needs what claim() returned, not {shown(claimed)}.")
    is_this = (sessions.c.id == claimed.id) & (sessions.c.user_id == claimed.user_id)
    return is_this & (sessions.c.state == "extracting") & (sessions.c.attempts == claimed.attempts)


def end_claim(connection: Connection, claimed: FinishedSession, state: str, **changes: Any) -> None:
    """Put a claimed session into another state; nothing happens to one that isn't the claimer's any more."""
    released = update(sessions).where(still_claimed(claimed))
    connection.execute(released.values(state=state, claimed_until=None, **changes))


def of_user_or_all(user_id: str | None) -> list[ColumnElement[bool]]:
    """The condition on the user; none if all are meant."""
    return [] if user_id is None else [sessions.c.user_id == check_name(user_id, "user_id", USER_ID_LENGTH)]


class SessionQueries:
    """What an operator asks a `SessionLog`: how many wait, what failed and why, and to try that again."""

    def __init__(self, engine: Engine | Connection):
        self._engine = engine

    def retry_failed(self, user_id: str | None = None) -> int:
        """Make failed conversations pending again; returns how many. Their attempts and last error stay on them."""
        failed = select(sessions.c.user_id).where(sessions.c.state == "failed", *of_user_or_all(user_id)).distinct()
        with autocommit_connection(self._engine) as connection:
            user_ids = connection.scalars(failed).all()
        return sum(map(self._retry_failed_of, sorted(user_ids)))

    def get(self, session_id: str) -> FinishedSession | None:
        """One conversation by its id; None if there is none, or if it isn't over."""
        return next(iter(self._read(finished_sessions.where(sessions.c.id == checked_id(session_id)))), None)

    def list(self, user_id: str | None = None, state: str | None = None, limit: int | None = 100) -> SessionList:
        """Conversations, the last to end first.

        state: pending, extracting, extracted or failed. limit: how many; None for all.
        """
        if state is not None and state not in SESSION_STATES:
            raise InvalidInput(f"state must be one of {', '.join(SESSION_STATES)}, not {shown(state)}.")
        if limit is not None:
            checked_number("limit", limit, 0, MAX_COUNT, whole=True)
        query = finished_sessions.where(*of_user_or_all(user_id))
        query = query if state is None else query.where(sessions.c.state == state)
        return self._read(query.order_by(sessions.c.ended_at.desc(), sessions.c.id.desc()).limit(limit))

    def counts(self, user_id: str | None = None) -> dict[str, int]:
        """How many conversations are in each state, all four of them, in the order in which they pass through."""
        by_state = select(sessions.c.state, func.count()).where(sessions.c.state.is_not(None), *of_user_or_all(user_id))
        with autocommit_connection(self._engine) as connection:
            rows = connection.execute(by_state.group_by(sessions.c.state)).all()
        return dict.fromkeys(SESSION_STATES, 0) | dict(tuple(row) for row in rows)

    def _retry_failed_of(self, user_id: str) -> int:
        retry = update(sessions).where(sessions.c.user_id == user_id, sessions.c.state == "failed")
        with write_transaction(self._engine) as connection:
            hold_user(connection, user_id)
            return connection.execute(retry.values(state="pending")).rowcount

    def _read(self, query: Select[Any]) -> SessionList:
        with autocommit_connection(self._engine) as connection:
            return SessionList(FinishedSession(*row) for row in connection.execute(query))


def checked_conversation(transcript: Iterable[Mapping[str, Any]], details: Mapping[str, Any]) -> dict[str, Any]:
    """{"transcript": …, "details": …} as they are stored; InvalidInput, naming the turn, if they can't be."""
    if isinstance(transcript, str | Mapping) or not isinstance(transcript, Iterable):
        raise InvalidInput(f"a transcript must be a list of turns, not {shown(transcript)}.")
    if not isinstance(details, Mapping):
        raise InvalidInput(f"details must be a dict, not {shown(details)}.")
    turns = [dict(turn) if isinstance(turn, Mapping) else turn for turn in transcript]
    if not turns:
        raise InvalidInput("the transcript is empty: nobody said anything, so there is nothing to hand in.")
    earlier: set[float] = set()
    for position, turn in enumerate(turns):
        earlier.add(_checked_turn(turn, f"transcript[{position}]", earlier))
    return prepare({"transcript": turns, "details": dict(details)})[0]


def _checked_turn(turn: Any, name: str, earlier: set[float]) -> float:
    """The turn's number."""
    if not isinstance(turn, dict) or not {"turn", "speaker", "text"} <= turn.keys():
        raise InvalidInput(f"{name} must be a dict with turn, speaker and text, not {shown(turn)}.")
    number: float = checked_number(f"the turn of {name}", turn["turn"], 0, MAX_COUNT, whole=True)
    if number in earlier:
        raise InvalidInput(
            f"{name} has the turn {number}, as one before it: a memory couldn't say which of them it comes from."
        )
    if turn["speaker"] not in SPEAKERS:
        raise InvalidInput(f"{name} has the speaker {shown(turn['speaker'])}; use one of {', '.join(SPEAKERS)}.")
    checked_text(turn["text"], f"the text of {name}")
    return number


def checked_id(session_id: str) -> str:
    """A UUID, in its usual form; else InvalidInput."""
    try:
        return str(uuid.UUID(checked_text(session_id, "session_id")))
    except ValueError as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(
            f"session_id must be a UUID, not {shown(session_id)}. Leave it out to get one; to give a name of your own "
            "an id that is always the same, use str(uuid.uuid5(uuid.NAMESPACE_URL, name))."
        ) from None


def checked_text(text: str, name: str) -> str:
    """The text; InvalidInput for anything else."""
    if not isinstance(text, str):
        raise InvalidInput(f"{name} must be a text, not {type(text).__name__}: {shown(text)}.")
    return text
