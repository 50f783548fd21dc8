"""Finished conversations: handed in once, claimed by one worker at a time, completed once, whatever dies."""

import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from conftest import ROOT, START, Clock
from sqlalchemy import Engine, Text, cast, event, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from lib.database.engine import connect, create_tables
from lib.database.tables import ConversationSession, User
from lib.errors import ClaimLost, InvalidInput, TablesMissing
from lib.formation import FinishedSession, SessionList
from lib.formation.session_log import SessionLog
from lib.store.items import Forgotten
from lib.store.memory_store import MemoryStore

LEASE = 60  # seconds
TALK = [
    {"text": "I moved to Montréal 🏔️", "turn": 1, "speaker": "user"},
    {"text": "Welcome!", "turn": 2, "speaker": "assistant"},
]


@pytest.fixture
def log(engine: Engine, clock: Clock) -> SessionLog:
    return SessionLog(engine, now=clock, lease_seconds=LEASE)


def finish_some(log: SessionLog, clock: Clock, count: int, user_id: str = "ada") -> list[str]:
    """Hand in so many, one an hour."""
    ids = []
    for number in range(count):
        clock.advance(hours=1)
        ids.append(log.finish(user_id, [{"turn": 1, "speaker": "user", "text": f"talk {number}"}]))
    return ids


def claim_ids(log: SessionLog, user_id: str | None = None) -> list[str]:
    """Claim all there are."""
    return [claimed.id for claimed in iter(lambda: log.claim(user_id), None)]


def count(engine: Engine) -> int:
    with engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(ConversationSession))


# --- handing in -----------------------------------------------------------------------------------


def test_a_conversation_comes_back_as_it_was_handed_in(log: SessionLog) -> None:
    begun, ended = START - timedelta(hours=2), START - timedelta(hours=1)

    session_id = log.finish("ada", TALK, started_at=begun, ended_at=ended, details={"channel": "web"})

    assert log.get(session_id) == FinishedSession(
        session_id, "ada", begun, ended, TALK, "pending", 0, None, None, {"channel": "web"}
    )


def test_a_conversation_of_no_stated_time_has_just_ended(log: SessionLog, clock: Clock) -> None:
    clock.advance(hours=5)

    session = log.get(log.finish("ada", TALK))

    assert (session.started_at, session.ended_at) == (clock.time, clock.time)
    assert session.ended_at.tzinfo is UTC


def test_times_of_another_zone_are_the_same_instants(log: SessionLog) -> None:
    nepal = timezone(timedelta(hours=5, minutes=45))

    session = log.get(log.finish("ada", TALK, ended_at=START.astimezone(nepal)))

    assert (session.ended_at, session.ended_at.tzinfo) == (START, UTC)


def test_handing_in_twice_changes_nothing(log: SessionLog, engine: Engine, clock: Clock) -> None:
    session_id = str(uuid.uuid4())
    assert log.finish("ada", TALK, session_id=session_id.upper()) == session_id
    log.complete(log.claim(), summary="done")
    before = log.get(session_id)
    clock.advance(days=1)

    again = log.finish("ada", [{"turn": 1, "speaker": "user", "text": "other"}], session_id=session_id)

    assert again == session_id
    assert log.get(session_id) == before and before.state == "extracted"
    assert count(engine) == 1


def test_a_session_id_of_another_user_is_refused(log: SessionLog, engine: Engine) -> None:
    session_id = log.finish("ada", TALK)

    with pytest.raises(InvalidInput, match="another user's"):
        log.finish("bob", TALK, session_id=session_id)

    assert log.get(session_id).user_id == "ada"
    with Session(engine) as session:
        assert session.scalars(select(User.id)).all() == ["ada"]


@pytest.mark.parametrize("owner", ["ada", "bob"])
def test_a_conversation_that_was_begun_as_a_row_is_completed_by_its_user_only(
    log: SessionLog, engine: Engine, owner: str
) -> None:
    begun, session_id = START - timedelta(hours=1), str(uuid.uuid4())
    with Session(engine) as session:
        session.add(User(id=owner))
        session.flush()
        session.add(ConversationSession(id=session_id, user_id=owner, started_at=begun, details={"channel": "web"}))
        session.commit()
    assert log.get(session_id) is None and log.claim() is None and log.list() == []

    if owner == "ada":
        log.finish("ada", TALK, session_id=session_id)
        session = log.get(session_id)
        assert (session.started_at, session.ended_at, session.details) == (begun, START, {"channel": "web"})
        assert log.claim().transcript == TALK
    else:
        with pytest.raises(InvalidInput, match="another user's"):
            log.finish("ada", TALK, session_id=session_id)
        assert log.get(session_id) is None


def test_a_transcript_may_have_further_fields_and_any_characters(log: SessionLog) -> None:
    text = "😀👩‍👩‍👧 é e\u0301 \u2028 \\ \" ' {} \t\n \x01 日本 'DROP TABLE"

    session_id = log.finish("😀", [{"turn": 7, "speaker": "user", "text": text, "tone": ["calm", 0.5, None]}])

    assert log.get(session_id).transcript == [{"turn": 7, "speaker": "user", "text": text, "tone": ["calm", 0.5, None]}]


def turn(**changes: Any) -> dict[str, Any]:
    return {"turn": 1, "speaker": "user", "text": "hello", **changes}


BAD_TRANSCRIPTS = {
    "nothing": [], "none": None, "text": "hello", "one turn": turn(), "number": 5, "list of texts": ["hello"],
    "no text": [{"turn": 1, "speaker": "user"}], "text is none": [turn(text=None)], "list": [turn(text=["a"])],
    "NUL": [turn(text="a\x00b")], "lone surrogate": [turn(text="cut \ud83d")], "NaN": [turn(tone=float("nan"))],
    "speaker": [turn(speaker="system")], "speaker is a list": [turn(speaker=["user"])],
    "turn is a text": [turn(turn="1")],
    "turn is True": [turn(turn=True)], "turn is negative": [turn(turn=-1)], "turn is 1.0": [turn(turn=1.0)],
    "a turn twice": [turn(), turn(text="again")], "a datetime": [turn(at=START)],
    "NUL in a key": [turn(**{"a\x00": 1})],
    "too large": [turn(text="x" * 10_000_001)], "second": [turn(), turn(turn=2, text=None)],
}  # fmt: skip


@pytest.mark.parametrize("bad", BAD_TRANSCRIPTS.values(), ids=BAD_TRANSCRIPTS)
def test_a_transcript_that_is_none_is_refused(log: SessionLog, engine: Engine, bad: Any) -> None:
    with pytest.raises(InvalidInput) as refused:
        log.finish("ada", bad)

    assert len(str(refused.value)) < 350
    assert count(engine) == 0


NAIVE = datetime(2026, 3, 1)
BAD_ARGUMENTS = [
    {"started_at": NAIVE}, {"ended_at": NAIVE}, {"ended_at": "2026-03-01"},
    {"started_at": START + timedelta(seconds=1)},
    {"session_id": ""}, {"session_id": "zoe-01"}, {"session_id": 5}, {"session_id": "a\x00"}, {"details": [1]},
    {"details": {"x": float("inf")}}, {"details": "web"}, {"details": {"x": "\ud83d"}},
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD_ARGUMENTS, ids=repr)
def test_an_argument_that_cannot_be_stored_is_refused(log: SessionLog, engine: Engine, bad: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        log.finish("ada", TALK, **bad)

    assert count(engine) == 0


CALLS: dict[str, Callable[[SessionLog, Any], Any]] = {
    "finish": lambda log, bad: log.finish(bad, TALK),
    "claim": lambda log, bad: log.claim(bad),
    "retry_failed": lambda log, bad: log.retry_failed(bad),
    "list": lambda log, bad: log.list(bad),
    "counts": lambda log, bad: log.counts(bad),
    "get": lambda log, bad: log.get(bad),
    "list, state": lambda log, bad: log.list(state=bad),
    "list, limit": lambda log, bad: log.list(limit=bad),
    "complete": lambda log, bad: log.complete(bad),
    "fail": lambda log, bad: log.fail(bad, "reason"),
    "give_back": lambda log, bad: log.give_back(bad),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_what_no_call_can_use_is_refused(log: SessionLog, call: Callable) -> None:
    log.finish("ada", TALK)

    for bad in ["", " ", "\x00", "x" * 51, "\ud83d", ["ada"], 1.5, True, -1]:
        with pytest.raises(InvalidInput):
            call(log, bad)

    assert log.counts() == {"pending": 1, "extracting": 0, "extracted": 0, "failed": 0}


def test_completing_what_claim_did_not_find_is_refused(log: SessionLog) -> None:
    with pytest.raises(InvalidInput, match=r"what claim\(\) returned"):
        log.complete(log.claim())


@pytest.mark.parametrize("bad", [0, -1, None, "60", True, float("nan"), float("inf")], ids=repr)
def test_a_lease_that_is_no_time_is_refused(engine: Engine, bad: Any) -> None:
    with pytest.raises(InvalidInput, match="lease_seconds"):
        SessionLog(engine, lease_seconds=bad)


def test_a_state_that_there_is_not_is_refused_by_the_database(log: SessionLog, engine: Engine) -> None:
    log.finish("ada", TALK)

    with pytest.raises(IntegrityError), engine.begin() as connection:
        connection.execute(update(ConversationSession).values(state="lost"))


def test_a_database_without_tables_says_what_to_call(bare_database_url: str) -> None:
    engine = connect(bare_database_url)
    log = SessionLog(engine)

    for call in (log.claim, log.counts, log.list, log.retry_failed, lambda: log.finish("ada", TALK)):
        with pytest.raises(TablesMissing):
            call()

    create_tables(engine)
    assert log.claim() is None
    engine.dispose()


# --- claiming -------------------------------------------------------------------------------------


def test_the_oldest_is_claimed_first(log: SessionLog, clock: Clock) -> None:
    second, third = finish_some(log, clock, 2)
    first = log.finish("bob", TALK, ended_at=START)

    assert claim_ids(log) == [first, second, third]
    assert log.claim() is None


def test_a_claim_says_what_it_changed(log: SessionLog) -> None:
    session_id = log.finish("ada", TALK)

    claimed = log.claim()

    assert (claimed.id, claimed.state, claimed.attempts) == (session_id, "extracting", 1)
    assert log.get(session_id) == claimed


def test_claims_for_one_user_leave_the_others_alone(log: SessionLog, clock: Clock) -> None:
    finish_some(log, clock, 2, "ada")
    of_bob = finish_some(log, clock, 2, "bob")

    assert claim_ids(log, "bob") == of_bob
    assert log.claim("ad") is None
    assert log.counts("ada")["pending"] == 2


def test_a_claim_that_lapsed_goes_to_the_next_worker(log: SessionLog, clock: Clock) -> None:
    log.finish("ada", TALK)
    first = log.claim()

    clock.advance(seconds=LEASE - 1)
    assert log.claim() is None
    clock.advance(seconds=1)
    second = log.claim()

    assert (second.id, second.attempts) == (first.id, 2)


def test_eight_who_claim_at_one_moment_get_different_ones(log: SessionLog, clock: Clock) -> None:
    ids = finish_some(log, clock, 40)
    barrier = Barrier(8, timeout=20)

    def claim_all(_: int) -> list[str]:
        barrier.wait()
        return claim_ids(log)

    with ThreadPoolExecutor(8) as pool:
        claimed = [one for found in pool.map(claim_all, range(8)) for one in found]

    # A claim passes over a row that another is just taking, so a worker may see none a moment too early.
    claimed += claim_ids(log)
    assert sorted(claimed) == sorted(ids)


def test_a_claim_does_not_wait_for_one_that_is_just_being_taken(postgres_engine: Engine, clock: Clock) -> None:
    create_tables(postgres_engine)
    log = SessionLog(postgres_engine, now=clock)
    user_id = f"user-{uuid.uuid4()}"[:50]
    first, second = finish_some(log, clock, 2, user_id)

    with postgres_engine.begin() as other:
        other.execute(select(ConversationSession.id).where(ConversationSession.id == first).with_for_update())
        claimed = log.claim(user_id)

    assert claimed.id == second
    MemoryStore(postgres_engine).forget_user(user_id)


def test_the_oldest_is_found_by_an_index_without_sorting(log: SessionLog, engine: Engine, clock: Clock) -> None:
    MemoryStore(engine).put("ada", "facts", "k", {})
    talk = {"user_id": "ada", "transcript": TALK}
    with engine.begin() as connection:
        rows = [{**talk, "ended_at": START - timedelta(hours=n), "state": "extracted"} for n in range(3000)]
        connection.execute(insert(ConversationSession), rows)
    finish_some(log, clock, 3)
    sent: list[tuple[str, Any]] = []

    def note(*arguments: Any) -> None:
        sent.append(arguments[2:4])

    event.listen(engine, "before_cursor_execute", note)
    log.claim()
    event.remove(engine, "before_cursor_execute", note)
    query, parameters = next(one for one in sent if "pending" in one[0])

    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql("ANALYZE sessions")
            plan = "\n".join(row[0] for row in connection.exec_driver_sql(f"EXPLAIN {query}", parameters))
        else:
            plan = "\n".join(row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}", parameters))

    assert "ix_session_to_extract" in plan, plan
    assert "Sort" not in plan and "TEMP B-TREE" not in plan, plan


# --- completing -----------------------------------------------------------------------------------


def test_what_is_written_is_kept_with_the_mark(log: SessionLog, store: MemoryStore) -> None:
    session_id = log.finish("ada", TALK)
    claimed = log.claim()

    item = log.complete(
        claimed,
        summary="Moved 🏔️",
        write=lambda connection: store.in_transaction(connection).put("ada", "facts", "home", {"n": 1}),
    )

    assert store.search("ada") == [item]
    session = log.get(session_id)
    assert (session.state, session.summary, session.error, session.attempts) == ("extracted", "Moved 🏔️", None, 1)
    assert log.claim() is None


def test_completing_without_a_summary_keeps_the_one_there_is(log: SessionLog, engine: Engine) -> None:
    session_id = log.finish("ada", TALK)
    with engine.begin() as connection:
        connection.execute(update(ConversationSession).values(summary="written before"))

    assert log.complete(log.claim()) is None

    assert log.get(session_id).summary == "written before"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_while_writing_keeps_nothing_and_leaves_the_claim(
    log: SessionLog, store: MemoryStore, error: type[BaseException]
) -> None:
    session_id = log.finish("ada", TALK)
    claimed = log.claim()

    def write(connection: Any) -> None:
        store.in_transaction(connection).put("ada", "facts", "home", {})
        raise error

    with pytest.raises(error):
        log.complete(claimed, write=write)

    assert store.search("ada") == []
    assert log.get(session_id) == claimed
    log.complete(claimed)
    assert log.get(session_id).state == "extracted"


@pytest.mark.parametrize("bad", ["a\x00b", "\ud83d", 5], ids=repr)
def test_a_summary_that_cannot_be_stored_is_refused_before_anything_is_written(log: SessionLog, bad: Any) -> None:
    log.finish("ada", TALK)

    with pytest.raises(InvalidInput):
        log.complete(log.claim(), summary=bad, write=lambda _: pytest.fail("written"))


def take_over(log: SessionLog, clock: Clock, claimed: FinishedSession) -> None:
    clock.advance(seconds=LEASE)
    assert log.claim().id == claimed.id


def take_over_and_give_back(log: SessionLog, clock: Clock, claimed: FinishedSession) -> None:
    clock.advance(seconds=LEASE)
    log.give_back(log.claim())


def give_back_and_take_again(log: SessionLog, clock: Clock, claimed: FinishedSession) -> None:
    log.give_back(claimed)
    assert log.claim().id == claimed.id


def retry(log: SessionLog, clock: Clock, claimed: FinishedSession) -> None:
    log.fail(claimed, "reason")
    log.retry_failed()
    assert log.claim().id == claimed.id


LOSSES: dict[str, Callable] = {
    "lapsed and taken": take_over,
    "lapsed, taken and given back": take_over_and_give_back,
    "given back": lambda log, clock, claimed: log.give_back(claimed),
    "given back and taken again": give_back_and_take_again,
    "failed": lambda log, clock, claimed: log.fail(claimed, "reason"),
    "failed, retried and taken again": retry,
    "completed": lambda log, clock, claimed: log.complete(claimed),
    "user forgotten": lambda log, clock, claimed: MemoryStore(log._engine).forget_user("ada"),
}


@pytest.mark.parametrize("lose", LOSSES.values(), ids=LOSSES)
def test_a_claim_that_is_lost_completes_nothing(
    log: SessionLog, store: MemoryStore, clock: Clock, engine: Engine, lose: Callable
) -> None:
    session_id = log.finish("ada", TALK)
    claimed = log.claim()
    lose(log, clock, claimed)
    before = log.get(session_id)

    with pytest.raises(ClaimLost, match=session_id):
        log.complete(claimed, summary="late", write=lambda connection: pytest.fail("written"))
    log.fail(claimed, "late")
    log.give_back(claimed)

    assert log.get(session_id) == before
    assert engine.pool.checkedout() == 0


def test_a_claim_that_lapsed_and_was_not_taken_is_still_good(log: SessionLog, clock: Clock) -> None:
    session_id = log.finish("ada", TALK)
    claimed = log.claim()
    clock.advance(days=1)

    log.complete(claimed)

    assert log.get(session_id).state == "extracted"


def test_two_who_complete_one_claim_at_one_moment_write_once(log: SessionLog, store: MemoryStore) -> None:
    log.finish("ada", TALK)
    claimed = log.claim()
    barrier = Barrier(4, timeout=20)

    def complete(worker: int) -> bool:
        barrier.wait()
        try:
            log.complete(claimed, write=lambda c: store.in_transaction(c).put("ada", "facts", f"by-{worker}", {}))
        except ClaimLost:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(complete, range(4)))

    assert sorted(outcomes) == [False, False, False, True]
    assert len(store.search("ada")) == 1


# --- failing, giving back, retrying ---------------------------------------------------------------


def test_a_failed_one_keeps_its_transcript_and_reason_until_it_is_retried(log: SessionLog) -> None:
    session_id = log.finish("ada", TALK)

    log.fail(log.claim(), "the answer was no JSON")

    failed = log.get(session_id)
    assert (failed.state, failed.error, failed.transcript) == ("failed", "the answer was no JSON", TALK)
    assert log.claim() is None
    assert log.retry_failed() == 1
    again = log.claim()
    assert (again.id, again.attempts, again.error) == (session_id, 2, "the answer was no JSON")
    log.complete(again)
    assert log.get(session_id).error is None


@pytest.mark.parametrize(
    ("error", "kept"),
    [("a\x00b \ud83d 😀", "a?b ? 😀"), ("x" * 5000, "x" * 2000), ("", "no reason was given")],
    ids=["characters", "length", "empty"],
)
def test_a_reason_of_any_characters_is_kept(log: SessionLog, error: str, kept: str) -> None:
    session_id = log.finish("ada", TALK)

    log.fail(log.claim(), error)

    assert log.get(session_id).error == kept


def test_a_reason_that_is_no_text_is_refused(log: SessionLog) -> None:
    log.finish("ada", TALK)

    with pytest.raises(InvalidInput, match="must be a text, not ValueError"):
        log.fail(log.claim(), ValueError("boom"))


def test_one_that_is_given_back_is_the_next_to_be_claimed(log: SessionLog, clock: Clock) -> None:
    first, _ = finish_some(log, clock, 2)

    log.give_back(log.claim())

    again = log.claim()
    assert (again.id, again.attempts, again.error) == (first, 2, None)


def test_only_failed_ones_are_retried_and_those_of_one_user_on_request(log: SessionLog, clock: Clock) -> None:
    for user in ("ada", "bob", "cy"):
        finish_some(log, clock, 4, user)
    for _ in range(3):
        for user in ("ada", "bob", "cy"):
            log.fail(log.claim(user), "reason")
    log.complete(log.claim("ada"))

    assert log.retry_failed("bob") == 3
    assert log.retry_failed("bob") == 0
    assert log.counts("ada") == {"pending": 0, "extracting": 0, "extracted": 1, "failed": 3}
    assert log.retry_failed() == 6
    assert log.counts() == {"pending": 11, "extracting": 0, "extracted": 1, "failed": 0}


# --- looking, forgetting --------------------------------------------------------------------------


def test_the_list_is_newest_first_and_can_be_narrowed(log: SessionLog, clock: Clock) -> None:
    ada = finish_some(log, clock, 3, "ada")
    bob = finish_some(log, clock, 2, "bob")
    log.claim("bob")

    def listed(*arguments: Any, **options: Any) -> list[str]:
        return [session.id for session in log.list(*arguments, **options)]

    assert listed() == [*reversed(bob), *reversed(ada)]
    assert listed("ada") == ada[::-1]
    assert listed(limit=2) == bob[::-1]
    assert listed(state="extracting") == bob[:1]
    assert listed("ada", "extracting") == listed("ad") == listed(limit=0) == []


def test_a_list_shows_as_a_table_with_its_text_escaped(log: SessionLog, clock: Clock) -> None:
    finish_some(log, clock, 2)
    log.fail(log.claim(), "<b>no</b> JSON")

    shown = log.list()

    assert repr(shown).splitlines() == [
        "ada  2026-03-01 14:00  1  pending  0  ",
        "ada  2026-03-01 13:00  1  failed  1  <b>no</b> JSON",
    ]
    assert "&lt;b&gt;no" in shown._repr_html_() and "<b>" not in shown._repr_html_()
    assert "&lt;b&gt;no" in shown[1]._repr_html_()
    assert repr(SessionList()) == "no sessions" and "no sessions" in SessionList()._repr_html_()


def test_an_id_that_is_not_there_is_none(log: SessionLog) -> None:
    assert log.get(str(uuid.uuid4())) is None


def test_forgetting_a_user_deletes_their_conversations(log: SessionLog, store: MemoryStore, clock: Clock) -> None:
    finish_some(log, clock, 3, "ada")
    bob = finish_some(log, clock, 1, "bob")
    log.claim("ada")

    assert store.forget_user("ada") == Forgotten(memories=0, sessions=3, cached_contents=0)

    assert log.list("ada") == [] and claim_ids(log) == bob


def test_forgetting_claiming_and_completing_at_one_moment_do_not_deadlock(
    log: SessionLog, store: MemoryStore, engine: Engine
) -> None:
    def work(worker: int) -> None:
        for number in range(20):
            if worker == 0:
                store.forget_user("ada")
            elif worker == 1:
                log.finish("ada", TALK)
                log.retry_failed()
            elif claimed := log.claim():
                try:
                    if number % 4 == 3:
                        log.fail(claimed, "reason")
                    else:
                        log.complete(
                            claimed, write=lambda c: store.in_transaction(c).put("ada", "facts", f"{worker}", {})
                        )
                except ClaimLost:
                    pass
            else:
                store.put_many("ada", [("facts", f"{other}", {"n": number}) for other in range(4)])

    with ThreadPoolExecutor(5) as pool:
        list(pool.map(work, range(5)))

    store.forget_user("ada")
    assert log.list() == [] and store.search("ada") == []


# --- processes that die ---------------------------------------------------------------------------


@pytest.fixture
def shared(database_url: str) -> Iterator[Engine]:
    engine = connect(database_url)
    yield engine
    engine.dispose()


def test_a_worker_killed_between_write_and_commit_has_written_nothing(shared: Engine, database_url: str) -> None:
    """That two hundred are extracted once each while workers are killed is in test_extraction.py."""
    log, store = SessionLog(shared, lease_seconds=60), MemoryStore(shared)
    session_id = log.finish("ada", TALK)
    worker = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("sessions_worker.py"))],
        env={**os.environ, "WORKER_URL": database_url, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert worker.stdout.readline().strip() == session_id
    assert store.get("ada", "counts", session_id) is None

    worker.kill()
    worker.communicate(timeout=20)

    assert store.get("ada", "counts", session_id) is None
    claimed = None
    while claimed is None:  # the server may need a moment to see that the client is gone
        claimed = log.claim()
    log.complete(claimed, write=lambda c: store.in_transaction(c).put("ada", "counts", session_id, {"times": 1}))
    assert (claimed.attempts, log.get(session_id).state) == (2, "extracted")
    assert len(store.history("ada", "counts", session_id)) == 1


def test_the_transcript_is_readable_json_in_the_database(log: SessionLog, engine: Engine) -> None:
    log.finish("ada", TALK)

    with engine.connect() as connection:
        stored = connection.scalar(select(cast(ConversationSession.transcript, Text)))

    assert "Welcome!" in stored
