"""The tables: what the database itself keeps watch over, on both databases."""

import threading
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import Engine, event, inspect, select, text
from sqlalchemy.exc import IntegrityError, StatementError
from sqlalchemy.orm import Session

from lib.database._side_tables import CachedContent
from lib.database.tables import Base, ConversationSession, Memory, User, as_utc, new_id, utcnow
from lib.errors import InvalidInput
from lib.store.memory_store import MemoryStore


def memory(**changes: Any) -> Memory:
    return Memory(**{"user_id": "ada", "namespace": "facts", "key": "home", "value": {"a": 1}, **changes})


def stored(engine: Engine, *records: Base) -> None:
    with Session(engine) as session:
        for record in records:
            session.add(record)
            session.flush()
        session.commit()


def test_ids_are_uuids_of_version_seven_that_grow() -> None:
    ids = [new_id() for _ in range(10_000)]

    assert ids == sorted(set(ids))
    assert {(uuid.UUID(one).version, uuid.UUID(one).variant) for one in ids} == {(7, uuid.RFC_4122)}


def test_an_id_begins_with_the_time_in_milliseconds() -> None:
    before = utcnow().timestamp()

    milliseconds = uuid.UUID(new_id()).int >> 80

    assert -1 <= milliseconds / 1000 - before < 5


def test_ids_of_many_threads_are_all_different() -> None:
    ids: list[str] = []
    threads = [threading.Thread(target=lambda: ids.extend(new_id() for _ in range(2000))) for _ in range(8)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(ids)) == 16_000


def test_the_time_now_knows_its_zone() -> None:
    assert utcnow().tzinfo is UTC


@pytest.mark.parametrize("bad", [datetime(2026, 1, 1), date(2026, 1, 1), "2026-01-01", 0, None], ids=repr)
def test_a_time_without_a_zone_is_refused(bad: Any) -> None:
    with pytest.raises(InvalidInput):
        as_utc(bad)


def test_times_come_back_aware_and_in_utc(engine: Engine) -> None:
    nepal = timezone(timedelta(hours=5, minutes=45))
    moment = datetime(2026, 3, 1, 9, 30, 15, 123456, tzinfo=nepal)

    stored(engine, User(id="ada", created_at=moment))

    with Session(engine) as session:
        back = session.get(User, "ada").created_at
    assert back == moment
    assert back.tzinfo is UTC


def test_a_naive_time_is_not_stored(engine: Engine) -> None:
    with pytest.raises((InvalidInput, StatementError), match="no time zone"):
        stored(engine, User(id="ada", created_at=datetime(2026, 3, 1)))


def test_a_session_that_is_not_over_has_no_end(engine: Engine) -> None:
    session_id = new_id()
    stored(engine, User(id="ada"), ConversationSession(id=session_id, user_id="ada", details={"channel": "web"}))

    with Session(engine) as session:
        row = session.get(ConversationSession, session_id)
        assert row.id == session_id
        assert (row.ended_at, row.summary, row.details) == (None, None, {"channel": "web"})


def test_the_column_of_the_details_is_named_metadata(engine: Engine) -> None:
    assert "metadata" in {column["name"] for column in inspect(engine).get_columns("sessions")}


@pytest.mark.parametrize(
    "orphan",
    [
        lambda: memory(),
        lambda: ConversationSession(user_id="ada"),
        lambda: CachedContent(content_hash="h", content_type="t", content={}, user_id="ada"),
    ],
    ids=["memory", "session", "cached content"],
)
def test_a_row_of_an_unknown_user_is_refused(engine: Engine, orphan: Any) -> None:
    with pytest.raises(IntegrityError):
        stored(engine, orphan())


def test_two_memories_cannot_have_one_key(engine: Engine) -> None:
    stored(engine, User(id="ada"), memory())

    with pytest.raises(IntegrityError):
        stored(engine, memory(value={"other": 2}))


def test_a_memory_needs_a_value(engine: Engine) -> None:
    stored(engine, User(id="ada"))

    with pytest.raises(IntegrityError):
        stored(engine, memory(value=None))


def test_two_cached_contents_cannot_have_one_hash(engine: Engine) -> None:
    stored(engine, CachedContent(content_hash="h", content_type="t", content={}))

    with pytest.raises(IntegrityError):
        stored(engine, CachedContent(content_hash="h", content_type="t", content={}))


def test_deleting_a_user_deletes_what_belongs_to_them(engine: Engine) -> None:
    stored(
        engine, User(id="ada"), memory(), ConversationSession(user_id="ada"),
        CachedContent(content_hash="h", content_type="t", content={}, user_id="ada"),
        CachedContent(content_hash="shared", content_type="t", content={}),
    )  # fmt: skip

    with engine.begin() as connection:
        connection.execute(text("DELETE FROM users WHERE id = 'ada'"))

    with Session(engine) as session:
        assert session.scalars(select(Memory)).all() == session.scalars(select(ConversationSession)).all() == []
        assert session.scalars(select(CachedContent.content_hash)).all() == ["shared"]


def test_json_is_jsonb_on_postgresql(engine: Engine) -> None:
    types = {column["name"]: str(column["type"]) for column in inspect(engine).get_columns("memories")}

    assert types["value"] == ("JSONB" if engine.dialect.name == "postgresql" else "JSON")


@pytest.mark.parametrize("namespace", [None, "facts"], ids=["all namespaces", "one namespace"])
def test_the_newest_memories_are_read_from_an_index_without_sorting(
    store: MemoryStore, engine: Engine, namespace: str | None
) -> None:
    store.put_many("ada", [("facts" if i % 2 else "plans", f"key-{i}", {"i": i}) for i in range(3000)])

    plan = plan_of(lambda: store.search("ada", namespace), engine)

    assert "ix_memory_newest" in plan, plan
    assert "Sort" not in plan and "TEMP B-TREE" not in plan, plan


def test_one_memory_is_read_by_its_address_right_after_a_large_batch(store: MemoryStore, engine: Engine) -> None:
    store.put_many("ada", [("facts", f"key-{i}", {"i": i}) for i in range(3000)])

    plan = plan_of(lambda: store.get("ada", "facts", "key-7"), engine)

    # On PostgreSQL without statistics: the index of the namespace, which is read from one end to the other.
    assert "uq_memory_user_key_namespace" in plan or "sqlite_autoindex_memories" in plan, plan


@pytest.mark.parametrize("namespace", [None, "facts"], ids=["all namespaces", "one namespace"])
def test_statistics_of_an_empty_table_are_renewed_by_the_next_large_batch(
    store: MemoryStore, engine: Engine, namespace: str | None
) -> None:
    many = [("facts" if i % 2 else "plans", f"key-{i}", {"i": i}) for i in range(6000)]
    store.put_many("bob", many)
    store.forget_user("bob")
    with engine.begin() as connection:
        connection.execute(text("ANALYZE memories"))  # as PostgreSQL does by itself, sooner or later
    store.put_many("ada", many[:3000])

    plan = plan_of(lambda: store.search("ada", namespace), engine)

    assert "ix_memory_newest" in plan, plan


def plan_of(call: Callable[[], Any], engine: Engine) -> str:
    """The database's plan for the last query that the call sends."""
    sent: list[tuple[str, Any]] = []

    def note(*arguments: Any) -> None:
        sent.append(arguments[2:4])

    event.listen(engine, "before_cursor_execute", note)
    call()
    event.remove(engine, "before_cursor_execute", note)
    query, parameters = sent[-1]
    explain, column = ("EXPLAIN", 0) if engine.dialect.name == "postgresql" else ("EXPLAIN QUERY PLAN", 3)
    with engine.connect() as connection:
        return "\n".join(row[column] for row in connection.exec_driver_sql(f"{explain} {query}", parameters))
