"""Moving memories to another database: exact, resumable, careful with what the target has, and proven."""

import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import fields
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import ROOT, START, Clock, empty, fresh_schema, sqlite_file_url
from sqlalchemy import Engine, create_engine, event, func, select, text, update
from sqlalchemy.exc import OperationalError

import lib.postgres.transfer
from lib.database import PastVersion
from lib.database._urls import parse_url
from lib.database.engine import connect, create_tables
from lib.database.tables import Base, ConversationSession, Memory, User, new_id
from lib.errors import InvalidInput, TablesMissing
from lib.formation.session_log import SessionLog
from lib.postgres.transfer import Copied, CopiedTable, checksum, copy_memories
from lib.store.memory_store import MemoryStore

PAIRS = ("sqlite-postgresql", "postgresql-sqlite")  # each kind of database on each side
ALL_PAIRS = (*PAIRS, "sqlite-sqlite", "postgresql-postgresql")
UNICODE = "Zoë 👩‍👩‍👧‍👦 \U0001f9e0 日本語 \u202eabc\u202c \u0301 \ufeff \t\n'\"\\ %s :x {} \\u0000"


@pytest.fixture(scope="module")
def schemas(postgres_server_url: str) -> Iterator[list[Engine]]:
    """Engines on two schemas of their own; emptied by `pair`."""
    with ExitStack() as stack:
        made = []
        for _ in range(2):
            engine = connect(stack.enter_context(fresh_schema(postgres_server_url)), pool_size=5)
            stack.callback(engine.dispose)
            create_tables(engine)
            made.append(engine)
        yield made


@pytest.fixture(params=PAIRS)
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Engine, Engine]]:
    """(source, target), both with empty tables: in both directions between the two kinds of database."""
    engines = []
    for place, kind in enumerate(request.param.split("-")):
        if kind == "postgresql":
            engine = request.getfixturevalue("schemas")[place]
            with engine.begin() as connection:
                connection.execute(text("DELETE FROM users"))
        else:
            engine = connect(f"sqlite:///{tmp_path / f'{place}.db'}")
            create_tables(engine)
        engines.append(engine)
    yield tuple(engines)
    for engine in engines:
        if engine.dialect.name == "sqlite":
            engine.dispose()


def rows_of(engine: Engine) -> dict[str, list[Any]]:
    """All rows that are copied, in an order that doesn't depend on the database, without the numbers of versions."""
    found = {}
    with engine.connect() as connection:
        for name in ("users", "memories", "memory_versions", "archived_memories", "sessions"):
            table = Base.metadata.tables[name]
            columns = [column for column in table.c if name != "memory_versions" or column.name != "id"]
            found[name] = sorted(map(repr, connection.execute(select(*columns).order_by(table.c.id))))
    return found


def filled(engine: Engine, users: int = 3, clock: Clock | None = None) -> MemoryStore:
    """A store with something of everything, its times with microseconds."""
    clock = clock or Clock()
    clock.time = START + timedelta(microseconds=123_457)
    store, log = MemoryStore(engine, now=clock), SessionLog(engine, now=clock)
    for number in range(users):
        user = f"user-{number}"
        for version in range(4):
            clock.advance(seconds=1.000_003)
            store.put(user, "facts", "home", {"n": version, "text": UNICODE, "float": 0.1 + version, "none": None})
        store.put(user, "facts", "lapsing", {"list": [1]}, expires_at=clock.time + timedelta(days=9))
        store.put(user, UNICODE[:9], "ключ 🔑", {"deep": {"é": [[], {}, [{"a": -1e-7}]], "big": 10**30}})
        for version in range(2):
            clock.advance(seconds=1)
            store.put(user, "facts", "old", {"n": version})
        store.archive(user, [("facts", "old")], reason="superseded 👋")
        turns = [{"turn": 1, "speaker": "user", "text": UNICODE}]
        log.finish(user, turns, started_at=START, details={"channel": "web"})
        if number == 0:
            log.fail(log.claim(user), "no model")
        if number == 1:
            log.complete(log.claim(user), summary="all well")
    return store


def numbers(table: CopiedTable) -> dict[str, int]:
    """The numbers of a row of the report that aren't 0."""
    return {
        field.name: value
        for field in fields(table)
        if "checksum" not in field.name and (value := getattr(table, field.name))
    }


# --- everything, exactly --------------------------------------------------------------------------


@pytest.mark.parametrize("pair", ALL_PAIRS, indirect=True)
def test_everything_arrives_as_it_was(pair: tuple[Engine, Engine]) -> None:
    source, target = pair
    clock = Clock()
    old = filled(source, clock=clock)

    result = copy_memories(source, target)

    assert result.verified
    assert rows_of(target) == rows_of(source)
    new = MemoryStore(target, now=clock)
    for user in ("user-0", "user-1", "user-2"):
        assert new.search(user, limit=None) == old.search(user, limit=None)
        assert new.history(user, "facts", "home") == old.history(user, "facts", "home")
        assert [version.value["n"] for version in new.history(user, "facts", "home")] == [0, 1, 2, 3]
        assert repr(new.archived(user)) == repr(old.archived(user)) != "no memories"
        assert SessionLog(target).list(user) == SessionLog(source).list(user) != []
        assert repr(new.get(user, "facts", "home")) == repr(old.get(user, "facts", "home"))
    assert numbers(result.memories) == {"in_source": 9, "copied": 9}
    assert (
        numbers(result.archived) == numbers(result.sessions) == numbers(result.users) == {"in_source": 3, "copied": 3}
    )


@pytest.mark.parametrize("pair", ALL_PAIRS, indirect=True)
def test_a_second_copy_writes_nothing(pair: tuple[Engine, Engine]) -> None:
    source, target = pair
    filled(source)
    first = copy_memories(source, target)
    written: list[str] = []
    note = lambda *arguments: written.append(arguments[2])  # noqa: E731
    event.listen(target, "before_cursor_execute", note)

    second = copy_memories(source, target)

    event.remove(target, "before_cursor_execute", note)
    assert (first.copied, second.copied) == (18, 0)
    assert second.verified
    assert numbers(second.memories) == {"in_source": 9, "already_there": 9}
    assert second.memories.source_checksum == first.memories.source_checksum
    assert written and not [
        sql for sql in written if sql.lstrip().startswith(("INSERT", "UPDATE", "DELETE", "BEGIN IMMEDIATE"))
    ]


def test_ten_thousand_random_memories_arrive(pair: tuple[Engine, Engine]) -> None:
    source, target = pair
    chance = random.Random(7)

    def value(depth: int = 0) -> Any:
        kinds: list[Callable[[], Any]] = [
            lambda: "".join(chr(chance.choice((chance.randrange(1, 128), 0x1F600, 0x416))) for _ in range(9)),
            lambda: chance.randrange(-(10**18), 10**18),
            lambda: chance.uniform(-1, 1) * 10.0 ** chance.randrange(-300, 300),
            lambda: chance.choice([None, True, False, 0.0, 1.0, 1, ""]),
        ]
        if depth < 3:
            kinds.append(lambda: [value(depth + 1) for _ in range(chance.randrange(3))])
            kinds.append(lambda: {str(value(3)): value(depth + 1) for _ in range(chance.randrange(3))})
        return chance.choice(kinds)()

    store = MemoryStore(source)
    for number in range(50):
        memories = [("facts", f"{chance.random()}", {"value": value()}) for _ in range(200)]
        store.put_many(f"user {number} é", memories)
        store.put_many(f"user {number} é", [(*memory[:2], {"n": 1}) for memory in memories[:20]])

    result = copy_memories(source, target)

    assert result.verified
    assert numbers(result.memories) == {"in_source": 10_000, "copied": 10_000}
    assert rows_of(target) == rows_of(source)


def test_json_in_another_layout_arrives_as_the_store_writes_it(postgres_engine: Engine, tmp_path: Path) -> None:
    source, back = connect(f"sqlite:///{tmp_path / 'source.db'}"), connect(f"sqlite:///{tmp_path / 'back.db'}")
    create_tables(source)
    create_tables(back)
    MemoryStore(source, now=Clock()).put("ada", "facts", "home", {"é": 1.0, "longer": [1]})
    with source.begin() as connection:
        spaced = '{ "longer" : [ 1 ],  "\\u00e9" : 1.0 }'
        connection.execute(text("UPDATE memories SET value = :value"), {"value": spaced})

    results = [copy_memories(source, empty(postgres_engine)), copy_memories(postgres_engine, back)]

    assert all(result.verified and result.memories.copied == 1 for result in results)
    with back.connect() as connection:
        stored = connection.scalar(text("SELECT CAST(value AS text) FROM memories"))
    assert stored == '{"é":1.0,"longer":[1]}'
    assert copy_memories(back, source).memories.already_there == 1
    source.dispose()
    back.dispose()


# --- interrupted ----------------------------------------------------------------------------------


def test_after_an_error_in_the_middle_it_goes_on(pair: tuple[Engine, Engine], monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = pair
    filled(source, users=6)
    original, calls = lib.postgres.transfer._store, 0

    def failing(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls % 7 == 0:  # each user takes five
            raise KeyboardInterrupt
        original(*arguments)

    monkeypatch.setattr(lib.postgres.transfer, "_store", failing)
    interrupted = 0
    while True:
        try:
            result = copy_memories(source, target)
            break
        except KeyboardInterrupt:
            interrupted += 1
            assert_memories_are_whole(source, target)

    assert interrupted > 3
    assert result.verified and rows_of(target) == rows_of(source)


def assert_memories_are_whole(source: Engine, target: Engine) -> None:
    """A memory that is in the target has all of its history there."""
    expected = dict(version_counts(source))
    for memory_id, count in version_counts(target):
        assert count == expected[memory_id]


def version_counts(engine: Engine) -> list[tuple[str, int]]:
    counts = select(Memory.id, func.count(PastVersion.id)).outerjoin(PastVersion, PastVersion.memory_id == Memory.id)
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(counts.group_by(Memory.id))]


@pytest.mark.parametrize("kinds", ["sqlite-postgresql", "postgresql-sqlite"])
def test_killed_at_random_moments_it_goes_on(kinds: str, postgres_server_url: str, tmp_path: Path) -> None:
    chance = random.Random(3)
    with fresh_schema(postgres_server_url) as schema_url:
        urls = [schema_url if kind == "postgresql" else sqlite_file_url(tmp_path) for kind in kinds.split("-")]
        environment = {**os.environ, "SOURCE_URL": urls[0], "TARGET_URL": urls[1], "PYTHONPATH": str(ROOT)}
        command = [sys.executable, str(Path(__file__).with_name("copying_worker.py"))]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        workers = [subprocess.Popen(command, env=environment, **pipes) for _ in range(3)]
        source, target = map(connect, urls)
        create_tables(source)
        create_tables(target)
        store = MemoryStore(source)
        for number in range(20):
            for _ in range(3):
                memories = [("facts", f"key-{n}", {"n": chance.random()}) for n in range(100)]
                store.put_many(f"user-{number}", memories)
        progress = []
        for worker in workers:
            worker.stdin.write("\n")
            worker.stdin.flush()
            for _ in range(chance.randrange(6, 16)):
                assert worker.stdout.readline() == "wrote\n"
            time.sleep(chance.uniform(0, 0.01))
            psutil.Process(worker.pid).kill()
            worker.communicate(timeout=60)
            with target.connect() as connection:
                progress.append(connection.scalar(select(func.count()).select_from(Memory)))
            assert_memories_are_whole(source, target)

        result = copy_memories(source, target)

        assert result.verified and rows_of(target) == rows_of(source)
        assert progress == sorted(set(progress)) and 0 < progress[0] < 2000  # each went on where the one before ended
        assert copy_memories(source, target).copied == 0
        source.dispose()
        target.dispose()


def test_two_copies_at_once_do_the_work_once(pair: tuple[Engine, Engine]) -> None:
    source, target = pair
    filled(source, users=8)

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda _: copy_memories(source, target), range(2)))

    assert all(result.verified for result in results)
    assert sum(result.memories.copied for result in results) == 24
    assert rows_of(target) == rows_of(source)


def test_writers_of_the_target_are_not_disturbed(pair: tuple[Engine, Engine]) -> None:
    source, target = pair
    filled(source, users=6)
    store = MemoryStore(target)  # by the real clock: newer than all of the source

    def write(_: int) -> None:
        for number in range(6):
            for key in ("home", "lapsing"):
                store.put(f"user-{number}", "facts", key, {"from": "the target"})

    with ThreadPoolExecutor(4) as pool:
        writers = [pool.submit(write, n) for n in range(3)]
        result = copy_memories(source, target)
    for writer in writers:
        writer.result()

    assert copy_memories(source, target).verified
    assert result.memories.in_source == 18
    for number in range(6):
        assert store.get(f"user-{number}", "facts", "home") == {"from": "the target"}
        assert store.list_namespaces(f"user-{number}")["facts"] == 2


@pytest.mark.parametrize("pair", ["sqlite-postgresql"], indirect=True)  # SQLite lets nobody write in between
def test_a_put_between_our_look_and_our_write_stays(
    pair: tuple[Engine, Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = pair
    filled(source, users=1)
    copy_memories(source, target)
    MemoryStore(target).clear("user-0", "facts")
    original, overtaken = lib.postgres.transfer._store, []

    def late(connection: Any, statement: Any, rows: list[dict[str, Any]]) -> None:
        if statement.table.name == "memories" and not overtaken:
            overtaken.append(MemoryStore(target).put("user-0", "facts", "home", {"n": "newer"}))
        original(connection, statement, rows)

    monkeypatch.setattr(lib.postgres.transfer, "_store", late)

    result = copy_memories(source, target)

    assert result.verified
    assert numbers(result.memories) == {"in_source": 3, "copied": 1, "already_there": 1, "kept": 1}
    assert MemoryStore(target).search("user-0", "facts", key_prefix="home") == overtaken


# --- what the target has of its own ---------------------------------------------------------------


def test_the_newer_memory_stays_and_the_older_is_replaced_with_its_history(pair: tuple[Engine, Engine]) -> None:
    source, target = pair
    clock = Clock()
    old, new = MemoryStore(source, now=clock), MemoryStore(target, now=clock)
    for store, key in ((new, "older"), (old, "newer")):
        for version in range(2):
            store.put("ada", "facts", key, {"first": version})
            clock.advance(days=1)
    for store, key in ((new, "newer"), (old, "older")):
        for version in range(3):
            store.put("ada", "facts", key, {"second": version})
            clock.advance(days=1)
    new.put("ada", "facts", "its own", {})
    stayed = new.history("ada", "facts", "newer")

    result = copy_memories(source, target)

    assert result.verified
    assert numbers(result.memories) == {"in_source": 2, "replaced": 1, "kept": 1}
    assert new.history("ada", "facts", "older") == old.history("ada", "facts", "older")
    assert new.history("ada", "facts", "newer") == stayed
    again = copy_memories(source, target)
    assert again.copied == 0 and again.memories.kept == 1


def test_an_equal_memory_with_another_id_is_left(pair: tuple[Engine, Engine]) -> None:
    source, target = pair
    for engine in pair:
        MemoryStore(engine, now=Clock()).put("ada", "facts", "home", {"n": 1})
    before = rows_of(target)

    result = copy_memories(source, target)

    assert rows_of(target) == before
    assert result.verified
    assert numbers(result.memories) == {"in_source": 1, "already_there": 1}


def test_another_value_of_the_same_moment_is_replaced(pair: tuple[Engine, Engine]) -> None:
    source, target = pair
    for n, engine in enumerate(pair):
        MemoryStore(engine, now=Clock()).put("ada", "facts", "home", {"n": float(n)})

    result = copy_memories(source, target)

    assert result.verified and numbers(result.memories) == {"in_source": 1, "replaced": 1}
    assert MemoryStore(target).get("ada", "facts", "home") == {"n": 0.0}


def test_a_lost_version_is_brought_again(pair: tuple[Engine, Engine]) -> None:
    source, target = pair
    filled(source, users=1)
    copy_memories(source, target)
    with target.begin() as connection:
        connection.execute(text("DELETE FROM memory_versions WHERE id = (SELECT min(id) FROM memory_versions)"))

    result = copy_memories(source, target)

    assert result.verified and result.memories.replaced == 1
    assert rows_of(target) == rows_of(source)


def test_what_was_deleted_and_put_again_is_the_new_one(pair: tuple[Engine, Engine]) -> None:
    source, target = pair
    clock = Clock()
    old = filled(source, users=1, clock=clock)
    copy_memories(source, target)
    clock.advance(days=1)
    old.delete("user-0", "facts", "home")
    old.put("user-0", "facts", "home", {"n": "again"})

    result = copy_memories(source, target)

    assert result.verified and result.memories.replaced == 1
    assert rows_of(target) == rows_of(source)


def test_what_was_archived_or_restored_in_the_source_is_so_in_the_target(pair: tuple[Engine, Engine]) -> None:
    source, target = pair
    clock = Clock()
    old = filled(source, users=2, clock=clock)
    copy_memories(source, target)
    clock.advance(days=1)
    old.restore("user-0", "facts", "old")
    old.archive("user-1", [("facts", "home")])

    result = copy_memories(source, target)

    assert result.verified
    assert rows_of(target) == rows_of(source)
    assert (result.memories.replaced, result.archived.replaced) == (1, 1)
    new = MemoryStore(target, now=clock)
    assert new.archive("user-0", [("facts", "old"), ("facts", "home")]) == 2


def test_what_was_changed_in_the_target_after_it_was_archived_in_the_source_stays(pair: tuple[Engine, Engine]) -> None:
    source, target = pair
    clock = Clock()
    old = filled(source, users=1, clock=clock)
    copy_memories(source, target)
    new = MemoryStore(target, now=clock)
    old.archive("user-0", [("facts", "home")])
    clock.advance(days=1)
    new.put("user-0", "facts", "home", {"n": "changed"})

    result = copy_memories(source, target)

    assert result.verified
    assert numbers(result.archived) == {"in_source": 2, "already_there": 1, "kept": 1}
    assert new.get("user-0", "facts", "home") == {"n": "changed"}


def test_an_sqlite_file_that_may_only_be_read_can_be_copied(postgres_engine: Engine, tmp_path: Path) -> None:
    file = connect(f"sqlite:///{tmp_path / 'old.db'}")
    create_tables(file)
    filled(file)
    file.dispose()
    source = create_engine(f"sqlite:///file:{tmp_path / 'old.db'}?mode=ro&uri=true")

    result = copy_memories(source, empty(postgres_engine))

    assert result.verified and rows_of(source) == rows_of(postgres_engine)
    with pytest.raises(OperationalError, match="readonly"), source.begin() as connection:
        connection.execute(text("DELETE FROM users"))
    source.dispose()


def test_the_conversation_that_is_further_stays(pair: tuple[Engine, Engine]) -> None:
    source, target = pair
    logs = [SessionLog(engine, now=Clock()) for engine in pair]
    turns = [{"turn": 1, "speaker": "user", "text": "Hello"}]
    ids = [new_id(), new_id()]
    for place, log in enumerate(logs):
        for session_id in ids:
            log.finish("ada", turns, session_id=session_id)
        log.complete(log.claim(), summary=f"by {place}") if place else None
    with source.begin() as connection:
        connection.execute(update(ConversationSession).where(ConversationSession.id == ids[1]).values(attempts=2))

    result = copy_memories(source, target)

    assert result.verified
    assert numbers(result.sessions) == {"in_source": 2, "replaced": 1, "kept": 1}
    assert logs[1].get(ids[0]).summary == "by 1"
    assert logs[1].get(ids[1]).attempts == 2


def test_a_conversation_whose_id_is_somebody_elses_is_named(pair: tuple[Engine, Engine]) -> None:
    source, target = pair
    turns, session_id = [{"turn": 1, "speaker": "user", "text": "Hello"}], new_id()
    SessionLog(source).finish("ada", turns, session_id=session_id)
    SessionLog(target).finish("bob", turns, session_id=session_id)

    with pytest.raises(InvalidInput, match=r"the user 'ada' can't be stored.*sessions"):
        copy_memories(source, target)

    assert SessionLog(target).get(session_id).user_id == "bob"


def test_what_the_target_says_of_a_user_stays(pair: tuple[Engine, Engine]) -> None:
    source, target = pair
    filled(source, users=2)
    MemoryStore(target).put("user-0", "facts", "own", {})
    MemoryStore(target).put("user-1", "facts", "own", {})
    with target.begin() as connection:
        connection.execute(update(User).where(User.id == "user-1").values(preferences={"tone": "dry"}))

    result = copy_memories(source, target)

    assert result.verified
    assert numbers(result.users) == {"in_source": 2, "replaced": 1, "kept": 1}
    assert MemoryStore(target).get("user-1", "facts", "own") == {}


# --- the proof ------------------------------------------------------------------------------------


def _later(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "updated_at": row["updated_at"] + timedelta(microseconds=1)}


def _float(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "value": row["value"].replace("[1]", "[1.0]")}


def _changed(column: str, value: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda row: {**row, column: value}


FAULTS: dict[str, tuple[str, Callable[[dict[str, Any]], dict[str, Any]]]] = {
    "a microsecond": ("memories", _later),
    "a float for an integer": ("memories", _float),
    "an end forgotten": ("memories", _changed("expires_at", None)),
    "a search text": ("memories", _changed("search_text", "")),
    "a past value": ("memory_versions", _changed("value", "{}")),
    "the reason": ("archived_memories", _changed("reason", "superseded")),
    "attempts": ("sessions", _changed("attempts", 5)),
    "a summary": ("sessions", _changed("summary", "")),
    "preferences": ("users", _changed("preferences", '{"a":1}')),
}
REPORTED_AS = {"memory_versions": "memories", "archived_memories": "archived"}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("pair", ["sqlite-postgresql"], indirect=True)
def test_a_fault_in_the_target_is_found(
    pair: tuple[Engine, Engine], fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = pair
    filled(source)
    where, spoil = FAULTS[fault]
    original, spoiled = lib.postgres.transfer._store, []

    def spoiling(connection: Any, statement: Any, rows: list[dict[str, Any]]) -> None:
        if statement.table.name == where and rows and not spoiled:
            at = next(at for at, row in enumerate(rows) if repr(spoil(row)) != repr(row))
            spoiled.append(rows[at])
            rows = [*rows[:at], spoil(rows[at]), *rows[at + 1 :]]
        original(connection, statement, rows)

    monkeypatch.setattr(lib.postgres.transfer, "_store", spoiling)

    result = copy_memories(source, target)

    assert spoiled and not result.verified
    different = [field.name for field in fields(Copied) if not getattr(result, field.name).verified]
    assert different == [REPORTED_AS.get(where, where)]
    assert "DIFFERENT" in result._repr_html_()


def test_what_comes_to_the_source_meanwhile_is_noticed_and_comes_with_the_next_call(
    pair: tuple[Engine, Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = pair
    store = filled(source)
    copy_user = lib.postgres.transfer._copy_user

    def late(source: Engine, target: Engine, user_id: str, report: Copied) -> None:
        copy_user(source, target, user_id, report)
        store.put("aaa", "facts", "late", {})

    monkeypatch.setattr(lib.postgres.transfer, "_copy_user", late)

    result = copy_memories(source, target)

    assert not result.verified
    assert (result.memories.in_source - result.memories.copied, result.users.in_source - result.users.copied) == (1, 1)
    monkeypatch.undo()
    again = copy_memories(source, target)
    assert again.verified and again.memories.copied == 1


def test_a_checksum_knows_no_id_and_every_digit() -> None:
    assert checksum({"id": 1, "a": START}) == checksum({"id": 2, "a": START})
    assert len({checksum({"a": value}) for value in (1, 1.0, "1", True, None, [1], {}, START)}) == 8


def test_the_result_shows_as_a_table(pair: tuple[Engine, Engine]) -> None:
    source, target = pair
    filled(source)

    result = copy_memories(source, target)

    [_, _, memories, *_] = re.findall("<tr>(.*?)</tr>", result._repr_html_())
    assert re.findall(">([^<]+)<", memories) == ["memories", "9", "9", "0", "0", "0", "equal"]
    assert "memories=CopiedTable(in_source=9, copied=9, replaced=0, already_there=0, kept=0)" in repr(result)


@pytest.mark.parametrize("progress", [True, False])
def test_there_is_one_progress_bar_and_it_comes_to_its_end(progress: bool, capsys: pytest.CaptureFixture) -> None:
    source, target = connect("sqlite://"), connect("sqlite://")
    create_tables(source)
    create_tables(target)
    filled(source)

    for _ in range(2):
        copy_memories(source, target, progress=progress)

        shown = capsys.readouterr().err
        assert ("100%" in shown) is progress
        assert shown.count("\n") == progress
    source.dispose()
    target.dispose()


# --- what is refused ------------------------------------------------------------------------------


def test_another_engine_on_the_same_database_finds_everything_there(database_url: str) -> None:
    engine, again = connect(database_url), connect(database_url)
    filled(engine)

    result = copy_memories(engine, again)

    assert result.verified
    assert (result.copied, result.memories.already_there) == (0, 9)
    engine.dispose()
    again.dispose()


def test_a_side_without_tables_says_what_to_do(kind: str, engine: Engine, bare_database_url: str) -> None:
    bare = connect(bare_database_url)
    MemoryStore(engine).put("ada", "facts", "home", {})

    for sides in ((engine, bare), (bare, engine)):
        with pytest.raises(TablesMissing, match=r"users.*create_tables"):
            copy_memories(*sides)
    bare.dispose()


UNSTORABLE = {
    "NaN": '{"n": NaN}',
    "no JSON": "{",
    "NUL": '{"text": "a\\u0000b"}',
    "half an emoji": '{"text": "\\ud83d"}',
}


@pytest.mark.parametrize("value", UNSTORABLE.values(), ids=UNSTORABLE)
def test_a_row_that_cannot_be_stored_is_named(value: str, postgres_engine: Engine) -> None:
    source = connect("sqlite://")
    create_tables(source)
    store = MemoryStore(source)
    store.put("ada", "facts", "fine", {})
    item = store.put("ada", "facts", "spoilt", {})
    with source.begin() as connection:
        connection.execute(text("UPDATE memories SET value = :value WHERE key = 'spoilt'"), {"value": value})
        memory_id = connection.scalar(select(Memory.id).where(Memory.key == item.key))

    with pytest.raises(InvalidInput, match=f"spoilt|{memory_id}"):
        copy_memories(source, empty(postgres_engine))

    source.dispose()


# --- any engine -----------------------------------------------------------------------------------


def test_plain_engines_work_too(postgres_server_url: str, tmp_path: Path) -> None:
    with fresh_schema(postgres_server_url) as url:
        plain = [create_engine(f"sqlite:///{tmp_path / 'plain.db'}"), create_engine(url)]
        for engine in plain:
            create_tables(engine)
        clock = Clock()
        filled(plain[0], clock=clock)
        assert copy_memories(*plain).verified
        clock.advance(days=1)
        MemoryStore(plain[1], now=clock).put("user-0", "facts", "home", {"n": "newer"})

        result = copy_memories(*reversed(plain))

        assert result.verified and result.memories.replaced == 1
        assert rows_of(plain[0]) == rows_of(plain[1])
        for engine in plain:
            engine.dispose()


def test_a_session_in_another_time_zone_changes_nothing(postgres_server_url: str) -> None:
    with fresh_schema(postgres_server_url) as url:
        options = f"{parse_url(url).query['options']} -cTimeZone=Asia/Kathmandu"
        there = parse_url(url).update_query_dict({"options": options}).render_as_string(hide_password=False)
        source, target = connect("sqlite://"), connect(there)
        create_tables(source)
        create_tables(target)
        filled(source)

        assert copy_memories(source, target).verified
        assert rows_of(target) == rows_of(source)
        assert MemoryStore(target).search("user-0")[0].updated_at.tzinfo is UTC
        source.dispose()
        target.dispose()
