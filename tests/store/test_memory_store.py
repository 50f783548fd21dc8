"""The store, on both databases: what it keeps, finds, forgets and refuses. What it finds: test_conditions.py."""

import dataclasses
import random
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from threading import Barrier
from typing import Any

import pandas
import pytest
from conftest import START, Clock, sqlite_file_url, start_worker
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from lib.database._side_tables import CachedContent
from lib.database.engine import connect, create_tables
from lib.database.tables import ConversationSession, Memory, User
from lib.errors import InvalidInput
from lib.store._batches import BATCH_CHARACTERS, batches
from lib.store.items import Forgotten, MemoryList
from lib.store.memory_store import MemoryStore


def keys(memories: MemoryList) -> list[str]:
    return [memory.key for memory in memories]


def rows(engine: Engine, *tables: type) -> int:
    with engine.connect() as connection:
        return sum(connection.scalar(select(func.count()).select_from(table)) for table in tables or (User, Memory))


def put_all(store: MemoryStore, **values: dict[str, Any]) -> None:
    for key, value in values.items():
        store.put("ada", "facts", key, value)


# --- put and get ----------------------------------------------------------------------------------


def test_a_memory_comes_back_as_it_was_put(store: MemoryStore) -> None:
    value = {"content": "Lives in Montréal", "topics": ["home", "Québec"], "confidence": 0.9, "seen": None, "ok": True}

    store.put("ada", "facts", "home", value)

    assert store.get("ada", "facts", "home") == value


def test_put_returns_the_memory_that_search_will_find(store: MemoryStore) -> None:
    item = store.put("ada", "facts", "home", {"b": 1, "a": [1.5, {"z": None}]})

    assert store.search("ada") == [item]


def test_the_keys_of_a_value_come_in_one_order_from_both_databases(store: MemoryStore) -> None:
    item = store.put("ada", "facts", "k", {"topics": [], "é": 1, "type": "x", "content": {"bb": 1, "a": 2}, "zz": 1})

    found = store.get("ada", "facts", "k")

    assert list(found) == list(item.value) == ["zz", "é", "type", "topics", "content"]
    assert list(found["content"]) == ["a", "bb"]


def test_a_memory_that_is_not_there_is_none(store: MemoryStore) -> None:
    store.put("ada", "facts", "home", {"a": 1})

    assert store.get("ada", "facts", "work") is None
    assert store.get("ada", "plans", "home") is None
    assert store.get("bob", "facts", "home") is None


def test_put_replaces_the_whole_value(store: MemoryStore, engine: Engine) -> None:
    store.put("ada", "facts", "home", {"city": "Paris", "since": 2019})

    store.put("ada", "facts", "home", {"city": "Montréal"})

    assert store.get("ada", "facts", "home") == {"city": "Montréal"}
    assert rows(engine, Memory) == 1


def test_a_replaced_value_is_no_longer_found_by_its_old_text(store: MemoryStore) -> None:
    store.put("ada", "facts", "home", {"city": "Paris"})

    store.put("ada", "facts", "home", {"city": "Rome"})

    assert store.search_by_content("ada", "Paris") == []
    assert keys(store.search_by_content("ada", "Rome")) == ["home"]


def test_put_keeps_created_at_and_moves_updated_at(store: MemoryStore, clock: Clock) -> None:
    store.put("ada", "facts", "home", {"city": "Paris"})
    later = clock.advance(hours=3)

    item = store.put("ada", "facts", "home", {"city": "Rome"})

    assert (item.created_at, item.updated_at) == (START, later)
    assert store.search("ada") == [item]


def test_put_many_keeps_created_at_and_moves_updated_at(store: MemoryStore, clock: Clock) -> None:
    store.put("ada", "facts", "home", {"city": "Paris"})
    later = clock.advance(hours=3)

    store.put_many("ada", [("facts", "home", {"city": "Rome"})])

    item = store.search("ada")[0]
    assert (item.created_at, item.updated_at, item.value) == (START, later, {"city": "Rome"})


def test_times_are_aware_and_in_utc(store: MemoryStore) -> None:
    store.put("ada", "facts", "home", {"a": 1})

    item = store.search("ada")[0]

    assert item.created_at.tzinfo is UTC and item.updated_at.tzinfo is UTC


def test_a_clock_in_another_time_zone_gives_the_same_instant(engine: Engine) -> None:
    nepal = timezone(timedelta(hours=5, minutes=45))
    store = MemoryStore(engine, now=lambda: START.astimezone(nepal))

    store.put("ada", "facts", "home", {"a": 1})

    assert store.search("ada")[0].created_at == START


def test_microseconds_are_kept(engine: Engine) -> None:
    moment = START.replace(microsecond=123_456)
    store = MemoryStore(engine, now=lambda: moment)

    store.put("ada", "facts", "home", {"a": 1})

    assert store.search("ada")[0].updated_at == moment


def test_a_clock_without_a_time_zone_is_refused(engine: Engine) -> None:
    store = MemoryStore(engine, now=lambda: datetime(2026, 3, 1))

    with pytest.raises(InvalidInput, match="no time zone"):
        store.put("ada", "facts", "home", {"a": 1})

    assert rows(engine) == 0


def test_a_callers_value_is_not_changed_and_not_shared(store: MemoryStore) -> None:
    value = {"b": [1], "a": 2}
    item = store.put("ada", "facts", "home", value)

    item.value["b"].append(2)

    assert value == {"b": [1], "a": 2} and list(value) == ["b", "a"]
    assert store.get("ada", "facts", "home") == {"b": [1], "a": 2}


def test_an_empty_object_is_a_value(store: MemoryStore) -> None:
    store.put("ada", "facts", "nothing", {})

    assert store.get("ada", "facts", "nothing") == {}


def test_names_are_told_apart_by_case_accents_and_spaces(store: MemoryStore) -> None:
    for number, key in enumerate(["key", "Key", "kéy", "ke\u0301y", " key", "key "]):
        store.put("ada", "facts", key, {"number": number})

    assert store.list_namespaces("ada") == {"facts": 6}
    assert store.get("ada", "facts", "Key") == {"number": 1}
    assert store.get("ada", "facts", "key ") == {"number": 5}


def test_the_longest_names_of_the_widest_characters_fit(store: MemoryStore) -> None:
    user, namespace, key = "😀" * 50, "👩" * 100, "🧠" * 200

    store.put(user, namespace, key, {"a": 1})

    assert store.get(user, namespace, key) == {"a": 1}


# --- put_many -------------------------------------------------------------------------------------


def test_put_many_stores_all_and_says_how_many(store: MemoryStore) -> None:
    stored = store.put_many("ada", ((f"space-{i % 3}", f"key-{i}", {"i": i}) for i in range(2500)))

    assert stored == 2500
    assert store.list_namespaces("ada") == {"space-0": 834, "space-1": 833, "space-2": 833}


def test_of_two_memories_with_one_key_the_later_stays(store: MemoryStore) -> None:
    stored = store.put_many("ada", [("facts", "home", {"n": 1}), ("facts", "a", {}), ("facts", "home", {"n": 2})])

    assert stored == 2
    assert store.get("ada", "facts", "home") == {"n": 2}


def test_put_many_of_nothing_stores_nothing(store: MemoryStore, engine: Engine) -> None:
    assert store.put_many("ada", []) == 0
    assert rows(engine) == 0


@pytest.mark.parametrize("bad", [("facts", "k", {"x": float("nan")}), ("facts", "k"), None, 5, ("", "k", {})])
def test_put_many_is_all_or_nothing(store: MemoryStore, engine: Engine, bad: Any) -> None:
    good = [("facts", f"key-{i}", {"i": i}) for i in range(1500)]

    with pytest.raises(InvalidInput):
        store.put_many("ada", [*good, bad])

    assert rows(engine) == 0


def test_put_many_interrupted_between_its_batches_stores_nothing(store: MemoryStore, engine: Engine) -> None:
    class Interrupted:
        """A progress bar's update is the only thing that happens between two batches."""

        def __init__(self, **_: Any):
            self.calls = 0

        def __enter__(self) -> "Interrupted":
            return self

        def __exit__(self, *_: object) -> None: ...

        def update(self, _: int) -> None:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("lib.store.memory_store.tqdm", Interrupted)
        store.put_many("ada", [("facts", f"key-{i}", {"i": i}) for i in range(3000)])

    assert rows(engine) == 0
    assert store.put_many("ada", [("facts", "k", {})]) == 1  # and the connection is usable


def test_put_many_shows_progress_only_on_request(store: MemoryStore, capfd: pytest.CaptureFixture) -> None:
    store.put_many("ada", [("facts", "k", {})])
    silent = capfd.readouterr().err
    store.put_many("ada", [("facts", "k", {})], progress=True)
    shown = capfd.readouterr().err

    assert silent == ""
    assert "memory" in shown


# --- delete, clear, list_namespaces, forget_user --------------------------------------------------


def test_delete_says_whether_there_was_something(store: MemoryStore) -> None:
    store.put("ada", "facts", "home", {"a": 1})

    assert store.delete("ada", "facts", "home") is True
    assert store.delete("ada", "facts", "home") is False
    assert store.get("ada", "facts", "home") is None


def test_delete_takes_one_memory_only(store: MemoryStore) -> None:
    for user, namespace, key in [
        ("ada", "facts", "a"),
        ("ada", "facts", "b"),
        ("ada", "x", "a"),
        ("bob", "facts", "a"),
    ]:
        store.put(user, namespace, key, {})

    store.delete("ada", "facts", "a")

    assert (store.list_namespaces("ada"), store.list_namespaces("bob")) == ({"facts": 1, "x": 1}, {"facts": 1})


def test_clear_empties_one_namespace_of_one_user_and_says_how_many(store: MemoryStore) -> None:
    store.put_many("ada", [("facts", "a", {}), ("facts", "b", {}), ("plans", "a", {})])
    store.put("bob", "facts", "a", {})

    assert store.clear("ada", "facts") == 2
    assert store.clear("ada", "facts") == 0
    assert (store.list_namespaces("ada"), store.list_namespaces("bob")) == ({"plans": 1}, {"facts": 1})


def test_namespaces_are_listed_in_alphabetical_order_with_counts(store: MemoryStore) -> None:
    for namespace in ["plans", "facts", "Zoo", "émotions", "facts"]:
        store.put("ada", namespace, f"key-{namespace}-{store.list_namespaces('ada')}", {})

    assert list(store.list_namespaces("ada").items()) == [("Zoo", 1), ("facts", 2), ("plans", 1), ("émotions", 1)]
    assert store.list_namespaces("nobody") == {}


def test_forget_user_deletes_everything_about_that_user_and_nobody_else(store: MemoryStore, engine: Engine) -> None:
    for user in ("ada", "bob"):
        store.put_many(user, [("facts", "a", {}), ("plans", "b", {})])
        with Session(engine) as session:
            session.add_all([ConversationSession(user_id=user, summary="talked") for _ in range(3)])
            session.add(CachedContent(content_hash=f"{user}-1", content_type="summary", content={}, user_id=user))
            session.commit()
    with Session(engine) as session:
        session.add(CachedContent(content_hash="shared", content_type="lesson", content={}, user_id=None))
        session.commit()

    forgotten = store.forget_user("ada")

    assert forgotten == Forgotten(memories=2, sessions=3, cached_contents=1)
    with Session(engine) as session:
        assert session.scalars(select(User.id)).all() == ["bob"]
        assert set(session.scalars(select(Memory.user_id))) == {"bob"}
        assert session.scalars(select(ConversationSession.user_id)).all() == ["bob"] * 3
        assert sorted(session.scalars(select(CachedContent.content_hash))) == ["bob-1", "shared"]


def test_forgetting_an_unknown_user_deletes_nothing(store: MemoryStore) -> None:
    store.put("ada", "facts", "a", {})

    assert store.forget_user("bob") == Forgotten(0, 0, 0)
    assert store.list_namespaces("ada") == {"facts": 1}


def test_a_forgotten_user_may_come_back(store: MemoryStore, clock: Clock) -> None:
    store.put("ada", "facts", "a", {"old": True})
    store.forget_user("ada")
    clock.advance(days=1)

    item = store.put("ada", "facts", "a", {"new": True})

    assert item.created_at == clock.time
    assert store.get("ada", "facts", "a") == {"new": True}


# --- isolation between users ----------------------------------------------------------------------


def test_one_user_never_sees_or_touches_another_users_memories(store: MemoryStore) -> None:
    store.put("ada", "facts", "secret", {"content": "the garden key", "topics": ["key"], "confidence": 1})
    intruders = ["bob", "Ada", "ada ", "%", "_da", "ad", "ada' OR '1'='1", "ada\\", "*", "ąda"]

    for intruder in intruders:
        assert store.get(intruder, "facts", "secret") is None
        assert store.search(intruder) == []
        assert store.search(intruder, "facts", topics=["key"], key_prefix="", min_confidence=0, limit=None) == []
        assert store.search_by_content(intruder, "garden") == []
        assert store.list_namespaces(intruder) == {}
        assert store.delete(intruder, "facts", "secret") is False
        assert store.clear(intruder, "facts") == 0
        assert store.forget_user(intruder) == Forgotten(0, 0, 0)

    assert keys(store.search("ada")) == ["secret"]


# --- what is refused ------------------------------------------------------------------------------

BAD_NAMES = ["", " ", "\t\n", None, 5, b"ada", ["ada"], True, "a\x00b", "\ud83d", "x" * 201]
CALLS: dict[str, Callable[[MemoryStore, Any], Any]] = {
    "put user_id": lambda store, bad: store.put(bad, "facts", "k", {}),
    "put namespace": lambda store, bad: store.put("new", bad, "k", {}),
    "put key": lambda store, bad: store.put("new", "facts", bad, {}),
    "put_many user_id": lambda store, bad: store.put_many(bad, [("facts", "k", {})]),
    "put_many user_id, of nothing": lambda store, bad: store.put_many(bad, []),
    "put_many key": lambda store, bad: store.put_many("new", [("facts", "good", {}), ("facts", bad, {})]),
    "get user_id": lambda store, bad: store.get(bad, "facts", "k"),
    "get namespace": lambda store, bad: store.get("ada", bad, "k"),
    "get key": lambda store, bad: store.get("ada", "facts", bad),
    "delete user_id": lambda store, bad: store.delete(bad, "facts", "k"),
    "delete key": lambda store, bad: store.delete("ada", "facts", bad),
    "clear user_id": lambda store, bad: store.clear(bad, "facts"),
    "clear namespace": lambda store, bad: store.clear("ada", bad),
    "list_namespaces": lambda store, bad: store.list_namespaces(bad),
    "forget_user": lambda store, bad: store.forget_user(bad),
    "search user_id": lambda store, bad: store.search(bad),
    "search_by_content user_id": lambda store, bad: store.search_by_content(bad, "tea"),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_name_that_cannot_be_stored_is_refused(store: MemoryStore, engine: Engine, call: Callable) -> None:
    store.put("ada", "facts", "kept", {"a": 1})

    for bad in BAD_NAMES:
        with pytest.raises(InvalidInput) as refused:
            call(store, bad)
        assert len(str(refused.value)) < 300

    assert rows(engine) == 2  # ada and her memory


@pytest.mark.parametrize(("place", "longest"), [("user_id", 50), ("namespace", 100), ("key", 200)])
def test_a_name_may_be_as_long_as_its_limit_and_no_longer(store: MemoryStore, place: str, longest: int) -> None:
    names = {"user_id": "u", "namespace": "n", "key": "k"}

    store.put(**{**names, place: "é" * longest}, value={})

    with pytest.raises(InvalidInput, match=rf"{place} has {longest + 1} characters, and {longest} is the limit"):
        store.put(**{**names, place: "é" * (longest + 1)}, value={})


# --- what is handed out ---------------------------------------------------------------------------


def test_items_are_frozen(store: MemoryStore) -> None:
    item = store.put("ada", "facts", "a", {})

    with pytest.raises(dataclasses.FrozenInstanceError):
        item.key = "b"


def test_items_make_a_data_frame(store: MemoryStore) -> None:
    put_all(store, a={"content": "x"}, b={"content": "y"})

    frame = pandas.DataFrame(store.search("ada"))

    assert list(frame.columns) == ["user_id", "namespace", "key", "value", "created_at", "updated_at", "expires_at"]
    assert list(frame["key"]) == ["b", "a"]


def test_a_table_in_a_notebook_escapes_html(store: MemoryStore) -> None:
    store.put("ada", "<b>n</b>", "<script>k</script>", {"content": '<img src=x onerror=alert(1)> & "it\'s"'})

    for html in (store.search("ada")._repr_html_(), store.search("ada")[0]._repr_html_()):
        assert "<script>" not in html and "<img" not in html and "<b>" not in html
        assert "&lt;img src=x" in html


def test_a_search_that_found_nothing_says_so(store: MemoryStore) -> None:
    assert repr(store.search("ada")) == "no memories"
    assert "no memories" in store.search("ada")._repr_html_()


def test_a_list_shows_one_memory_a_line(store: MemoryStore) -> None:
    put_all(store, a={"content": "tea"}, b={"n": 1}, c={"content": "x" * 1000})

    lines = repr(store.search("ada")).splitlines()

    assert lines[2] == "2026-03-01 12:00  facts / a: tea"
    assert lines[1] == '2026-03-01 12:00  facts / b: {"n": 1}'
    assert lines[0].endswith("…") and len(lines[0]) < 250


# --- reliability: threads -------------------------------------------------------------------------

KEYS = 50


def in_threads(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Run `work(0)` … `work(count - 1)` at one moment; their results, or the first error."""
    barrier = Barrier(count, timeout=20)

    def begin(number: int) -> Any:
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(begin, range(count)))


def check_that_each_shared_key_is_whole(store: MemoryStore, engine: Engine) -> None:
    found = store.search("ada", limit=None)
    assert sorted(keys(found)) == sorted(f"key-{key}" for key in range(KEYS))
    assert all(memory.value["key"] == int(memory.key.removeprefix("key-")) for memory in found)
    assert rows(engine, Memory) == KEYS
    assert rows(engine, User) == 1


def test_eight_threads_writing_the_same_keys_leave_one_row_each(store: MemoryStore, engine: Engine) -> None:
    def write(worker: int) -> None:
        for key in range(KEYS):
            store.put("ada", "shared", f"key-{key}", {"worker": worker, "key": key})

    in_threads(8, write)

    check_that_each_shared_key_is_whole(store, engine)


def test_eight_threads_on_an_sqlite_file_leave_one_row_each(tmp_path: Path) -> None:
    engine = connect(sqlite_file_url(tmp_path))
    create_tables(engine)
    store = MemoryStore(engine)

    def write(worker: int) -> None:
        for key in range(KEYS):
            store.put("ada", "shared", f"key-{key}", {"worker": worker, "key": key})

    in_threads(8, write)

    check_that_each_shared_key_is_whole(store, engine)
    engine.dispose()


def test_eight_threads_reading_and_writing_see_whole_memories_only(store: MemoryStore) -> None:
    store.put("ada", "shared", "pair", {"left": 0, "right": 0})

    def work(worker: int) -> None:
        for number in range(40):
            if worker % 2:
                store.put("ada", "shared", "pair", {"left": number, "right": number})
            else:
                value = store.get("ada", "shared", "pair")
                assert value["left"] == value["right"]
                assert len(store.search("ada")) == 1

    in_threads(8, work)

    assert store.get("ada", "shared", "pair") == {"left": 39, "right": 39}


def test_eight_threads_adding_one_new_user_at_one_moment_all_succeed(store: MemoryStore, engine: Engine) -> None:
    for attempt in range(10):
        in_threads(8, lambda worker: store.put(f"user-{attempt}", "facts", f"key-{worker}", {}))  # noqa: B023

    assert rows(engine, User) == 10
    assert rows(engine, Memory) == 80


def test_batches_in_opposite_orders_do_not_deadlock(store: MemoryStore, engine: Engine) -> None:
    batch = [("shared", f"key-{key}", {"key": key}) for key in range(KEYS)]

    def write(worker: int) -> None:
        for _ in range(15):
            store.put_many("ada", batch if worker % 2 else reversed(batch))

    in_threads(4, write)

    check_that_each_shared_key_is_whole(store, engine)


def test_readers_never_see_half_of_a_batch(store: MemoryStore) -> None:
    store.put_many("ada", [("shared", f"key-{key}", {"round": 0}) for key in range(20)])

    def work(worker: int) -> None:
        for number in range(20):
            if worker == 0:
                store.put_many("ada", [("shared", f"key-{key}", {"round": number}) for key in range(20)])
            else:
                assert len({memory.value["round"] for memory in store.search("ada", limit=None)}) == 1

    in_threads(4, work)


def test_a_namespace_may_be_cleared_while_others_write_to_it(store: MemoryStore) -> None:
    batch = [("shared", f"key-{key}", {"key": key}) for key in range(KEYS)]
    for _, key, value in random.Random(1).sample(batch, KEYS):  # so that the rows lie in another order than the keys
        store.put("ada", "shared", key, value)

    def work(worker: int) -> None:
        for number in range(60):
            if worker == 0:
                store.clear("ada", "shared")
            elif worker == 1:
                for _, key, value in random.Random(number).sample(batch, 5):
                    store.put("ada", "shared", key, value)
            else:
                store.put_many("ada", batch)

    in_threads(4, work)

    assert store.list_namespaces("ada").get("shared", 0) <= KEYS


def test_a_user_may_be_forgotten_while_others_write_for_them(store: MemoryStore, engine: Engine) -> None:
    def work(worker: int) -> None:
        for number in range(30):
            if worker == 0:
                store.forget_user("ada")
            elif worker == 1:
                store.put("ada", "shared", f"key-{number}", {"n": number})
            else:
                store.put_many("ada", [("shared", f"key-{number}-{i}", {"n": number}) for i in range(5)])

    in_threads(4, work)

    store.forget_user("ada")
    assert rows(engine) == 0


# --- reliability: processes -----------------------------------------------------------------------


@pytest.fixture
def shared(database_url: str) -> Iterator[MemoryStore]:
    """A store on a database that worker processes can open as well."""
    engine = connect(database_url)
    yield MemoryStore(engine)
    engine.dispose()


def test_four_processes_writing_the_same_keys_leave_one_row_each(shared: MemoryStore, database_url: str) -> None:
    workers = [start_worker("same-keys", number, KEYS, url=database_url) for number in range(4)]
    for worker in workers:
        assert worker.stdout.readline() == "ready\n"

    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    errors = [worker.communicate(timeout=30)[1] for worker in workers]

    assert errors == [""] * 4
    assert [worker.returncode for worker in workers] == [0] * 4
    check_that_each_shared_key_is_whole(shared, shared._engine)


@pytest.mark.parametrize("attempt", range(2))
def test_a_killed_process_has_lost_no_memory_that_it_acknowledged(
    shared: MemoryStore, database_url: str, attempt: int
) -> None:
    patience = random.Random(attempt).randint(1, 600)
    worker = start_worker("put", 2000, url=database_url)

    acknowledged = [worker.stdout.readline().strip() for _ in range(patience)]
    worker.kill()
    acknowledged += worker.stdout.read().split("\n")[:-1]  # still in the pipe; the last may be cut

    assert worker.wait(timeout=30) == -signal.SIGKILL
    assert patience <= len(acknowledged) < 2000
    found = {memory.key: memory.value for memory in shared.search("ada", limit=None)}
    assert set(acknowledged) <= set(found)
    assert len(found) - len(acknowledged) in (0, 1)  # stored, but killed before it could say so
    assert all(key == f"key-{value['number']}" for key, value in found.items())
    check_that_the_database_is_sound(shared)


def test_a_process_killed_in_a_batch_has_stored_whole_batches_only(shared: MemoryStore, database_url: str) -> None:
    worker = start_worker("put-many", 1000, 40, url=database_url)

    acknowledged = [worker.stdout.readline().strip() for _ in range(random.Random(7).randint(5, 40))]
    worker.kill()
    acknowledged += worker.stdout.read().split("\n")[:-1]

    assert worker.wait(timeout=30) == -signal.SIGKILL
    counts = shared.list_namespaces("ada")
    assert set(counts.values()) == {40}
    assert {f"batch-{number}" for number in acknowledged} <= set(counts)
    assert len(counts) - len(acknowledged) in (0, 1)
    check_that_the_database_is_sound(shared)


def check_that_the_database_is_sound(store: MemoryStore) -> None:
    """It can be written at once, as the dead process left no lock; and SQLite finds no fault in its file."""
    store.put("ada", "facts", "afterwards", {})
    if store._engine.dialect.name == "sqlite":
        with store._engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
            assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []


def test_a_batch_ends_when_it_is_large_enough_to_be_sent() -> None:
    rows = [{"value": "x" * (BATCH_CHARACTERS // 4), "search_text": ""} for _ in range(10)]
    small = [{"value": "{}", "search_text": ""} for _ in range(2500)]

    assert [len(batch) for batch in batches(rows)] == [4, 4, 2]
    assert [len(batch) for batch in batches(small)] == [1000, 1000, 500]
    assert list(batches([])) == []
