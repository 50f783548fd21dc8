"""The archive: memories go there whole, are out of every search, and come back as they were."""

import os
from concurrent.futures import ThreadPoolExecutor, wait
from threading import Barrier
from typing import Any

import pytest
from conftest import DATABASES, START, Clock
from sqlalchemy import Engine, func, select

from lib.database import ArchivedMemory
from lib.database.transactions import hold_user, write_transaction
from lib.errors import InvalidInput
from lib.store._archive import BATCH
from lib.store.items import Forgotten
from lib.store.memory_store import MemoryStore

VALUE = {"content": "Café in Malmö", "n": 1.0, "large": 10**30, "nested": {"a": [None, True, 0.1]}}


def archived_rows(engine: Engine) -> int:
    with engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(ArchivedMemory))


def keys(items: Any) -> list[str]:
    return [item.key for item in items]


# --- moving out -----------------------------------------------------------------------------------


def test_an_archived_memory_is_in_no_search(store: MemoryStore) -> None:
    store.put("ada", "episodes", "monday", VALUE)
    store.put("ada", "episodes", "tuesday", {"content": "another café"})

    moved = store.archive("ada", [("episodes", "monday")], reason="old")

    assert moved == 1
    assert store.get("ada", "episodes", "monday") is None
    assert keys(store.search("ada")) == keys(store.search("ada", "episodes")) == ["tuesday"]
    assert keys(store.search_by_content("ada", "cafe")) == ["tuesday"]
    assert store.list_namespaces("ada") == {"episodes": 1}
    assert store.history("ada", "episodes", "monday") == []


def test_the_archive_shows_what_when_and_why(store: MemoryStore, clock: Clock) -> None:
    store.put("ada", "episodes", "monday", VALUE)
    later = clock.advance(days=3)

    store.archive("ada", [("episodes", "monday")], reason="the week 2026-W09")

    [item] = store.archived("ada")
    assert (item.namespace, item.key, item.value) == ("episodes", "monday", VALUE)
    assert (item.created_at, item.updated_at, item.archived_at) == (START, START, later)
    assert item.reason == "the week 2026-W09"
    assert "the week 2026-W09" in store.archived("ada")._repr_html_()
    assert "the week 2026-W09" in item._repr_html_()
    assert store.archived("nobody")._repr_html_() == "<em>no memories</em>"


def test_what_is_not_there_is_not_counted_and_what_is_named_twice_counts_once(store: MemoryStore) -> None:
    store.put("ada", "facts", "home", {})

    moved = store.archive("ada", iter([("facts", "home"), ("facts", "home"), ("facts", "job"), ("goals", "home")]))

    assert moved == 1
    assert store.archive("ada", []) == 0
    assert store.archive("nobody", [("facts", "home")]) == 0


def test_the_archive_is_read_newest_first_by_pages_and_by_namespace(store: MemoryStore, clock: Clock) -> None:
    for number in range(6):
        store.put("ada", "facts" if number % 2 else "goals", f"k{number}", {})
    store.archive("ada", [("goals", "k0"), ("facts", "k1"), ("goals", "k2")])
    clock.advance(hours=1)
    store.archive("ada", [("facts", "k5"), ("facts", "k3"), ("goals", "k4")])

    assert keys(store.archived("ada")) == ["k5", "k4", "k3", "k2", "k1", "k0"]
    assert keys(store.archived("ada", limit=2, offset=1)) == ["k4", "k3"]
    assert keys(store.archived("ada", "facts", limit=None)) == ["k5", "k3", "k1"]


def test_many_memories_are_archived_at_once(store: MemoryStore) -> None:
    addresses = [("episodes", f"k{number}") for number in range(2 * BATCH + 1)]
    store.put_many("ada", [(namespace, key, {}) for namespace, key in addresses])

    assert store.archive("ada", addresses) == len(addresses)
    assert len(store.archived("ada", limit=None)) == len(addresses)
    assert store.list_namespaces("ada") == {}


def test_reading_a_page_sorts_nothing(store: MemoryStore, engine: Engine, kind: str) -> None:
    query = "SELECT key FROM archived_memories WHERE user_id = 'ada' ORDER BY archived_at DESC, id DESC LIMIT 10"
    with engine.begin() as connection:
        if kind == "postgresql":  # which would rather sort as long as the table is small
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
            connection.exec_driver_sql("SET LOCAL enable_bitmapscan = off")
        explain = "EXPLAIN " if kind == "postgresql" else "EXPLAIN QUERY PLAN "
        plan = "\n".join(str(row) for row in connection.exec_driver_sql(explain + query))

    # That of a partition has a name that PostgreSQL gave it: see lib.postgres.partitioning.
    parted = kind == "postgresql" and "WORKBOOK_TEST_PARTITIONS" in os.environ
    assert ("user_id_archived_at_id_idx" if parted else "ix_archived_memory_newest_of_user") in plan
    assert "Sort" not in plan and "TEMP B-TREE" not in plan


@pytest.mark.parametrize("kind", DATABASES)
@pytest.mark.parametrize(
    "wrong", ["ab", ["ab"], 5, [("facts",)], [("facts", "")], [("facts", "k\x00")], [(1, "k")], [("x" * 101, "k")]]
)
def test_addresses_that_cannot_be_are_refused(store: MemoryStore, kind: str, wrong: Any) -> None:
    store.put("ada", "facts", "home", {})

    with pytest.raises(InvalidInput):
        store.archive("ada", wrong if not isinstance(wrong, list) else [("facts", "home"), *wrong])

    assert store.list_namespaces("ada") == {"facts": 1}


@pytest.mark.parametrize("kind", DATABASES)
@pytest.mark.parametrize("wrong", [None, 5, "NUL \x00", "half \ud83d"], ids=repr)
def test_a_reason_that_cannot_be_stored_is_refused(store: MemoryStore, kind: str, wrong: Any) -> None:
    with pytest.raises(InvalidInput, match="reason"):
        store.archive("ada", [("facts", "home")], reason=wrong)


@pytest.mark.parametrize("wrong", [-1, 2.5, True, "3"], ids=repr)
def test_a_limit_or_offset_that_is_no_count_is_refused(store: MemoryStore, wrong: Any) -> None:
    for page in ({"limit": wrong}, {"offset": wrong}):
        with pytest.raises(InvalidInput, match="whole number"):
            store.archived("ada", **page)


# --- bringing back --------------------------------------------------------------------------------


def test_a_restored_memory_is_as_it_was(store: MemoryStore, clock: Clock, engine: Engine) -> None:
    before = store.put("ada", "episodes", "monday", VALUE)
    clock.advance(days=1)
    store.archive("ada", [("episodes", "monday")])

    restored = store.restore("ada", "episodes", "monday")

    assert restored is True
    assert store.search("ada") == [before]
    assert keys(store.search_by_content("ada", "CAFE in malmo")) == ["monday"]
    assert keys(store.search("ada", filter={"n": 1.0})) == ["monday"]
    assert archived_rows(engine) == 0
    assert store.restore("ada", "episodes", "monday") is False


def test_of_several_with_one_address_the_last_comes_back_first(store: MemoryStore) -> None:
    for number in range(3):
        store.put("ada", "facts", "home", {"n": number})
        store.archive("ada", [("facts", "home")])
    assert [item.value["n"] for item in store.archived("ada")] == [2, 1, 0]

    for number in (2, 1, 0):
        assert store.restore("ada", "facts", "home")
        assert store.get("ada", "facts", "home") == {"n": number}
        store.delete("ada", "facts", "home")


def test_a_current_memory_is_not_replaced_by_an_archived_one(store: MemoryStore) -> None:
    store.put("ada", "facts", "home", {"n": "old"})
    store.archive("ada", [("facts", "home")])
    store.put("ada", "facts", "home", {"n": "new"})

    with pytest.raises(InvalidInput, match="facts/home is the address of a current memory"):
        store.restore("ada", "facts", "home")

    assert store.get("ada", "facts", "home") == {"n": "new"}
    assert [item.value for item in store.archived("ada")] == [{"n": "old"}]


def test_a_lapsed_memory_does_not_stand_in_the_way(store: MemoryStore, clock: Clock) -> None:
    store.put("ada", "facts", "home", {"n": "old"})
    store.archive("ada", [("facts", "home")])
    store.put("ada", "facts", "home", {"n": "for a day"}, expires_at=clock.time)

    assert store.restore("ada", "facts", "home")
    assert store.get("ada", "facts", "home") == {"n": "old"}


def test_a_restored_memory_keeps_versions_again(store: MemoryStore) -> None:
    store.put("ada", "facts", "home", {"n": 1})
    store.put("ada", "facts", "home", {"n": 2})
    store.archive("ada", [("facts", "home")])
    store.restore("ada", "facts", "home")

    store.put("ada", "facts", "home", {"n": 3})

    assert [version.value["n"] for version in store.history("ada", "facts", "home")] == [2, 3]


# --- whole or not at all, and nobody else's -------------------------------------------------------


def test_killed_in_the_middle_nothing_is_moved(store: MemoryStore, engine: Engine) -> None:
    store.put("ada", "facts", "home", {})
    store.put("ada", "facts", "job", {})
    store.archive("ada", [("facts", "job")])

    with pytest.raises(KeyboardInterrupt), write_transaction(engine) as connection:
        inside = store.in_transaction(connection)
        assert inside.archive("ada", [("facts", "home")]) == 1
        assert inside.restore("ada", "facts", "job")
        raise KeyboardInterrupt

    assert keys(store.search("ada")) == ["home"]
    assert keys(store.archived("ada")) == ["job"]


def test_other_users_are_left_alone(store: MemoryStore) -> None:
    for user in ("ada", "bob"):
        store.put(user, "facts", "home", {"whose": user})
        store.put(user, "facts", "job", {"whose": user})
    store.archive("bob", [("facts", "job")])

    store.archive("ada", [("facts", "home"), ("facts", "job")])

    assert keys(store.search("bob")) == ["home"]
    assert [item.value for item in store.archived("bob")] == [{"whose": "bob"}]
    assert store.restore("bob", "facts", "job") and store.get("bob", "facts", "job") == {"whose": "bob"}
    assert len(store.archived("ada")) == 2


def test_forgetting_a_user_deletes_and_counts_the_archive(store: MemoryStore, engine: Engine) -> None:
    for user in ("ada", "bob"):
        store.put_many(user, [("facts", f"k{number}", {}) for number in range(5)])
        store.archive(user, [("facts", f"k{number}") for number in range(3)])

    forgotten = store.forget_user("ada")

    assert forgotten == Forgotten(memories=2, sessions=0, cached_contents=0, versions=0, archived=3)
    assert store.archived("ada") == []
    assert archived_rows(engine) == 3


def test_threads_that_archive_the_same_memories_move_each_once(store: MemoryStore, engine: Engine) -> None:
    addresses = [("facts", f"k{number}") for number in range(40)]
    store.put_many("ada", [(namespace, key, {}) for namespace, key in addresses])
    barrier = Barrier(4, timeout=20)

    def work(worker: int) -> int:
        barrier.wait()
        return sum(store.archive("ada", [address]) for address in addresses[:: 1 if worker % 2 else -1])

    with ThreadPoolExecutor(4) as pool:
        moved = sum(pool.map(work, range(4)))

    assert moved == archived_rows(engine) == 40


def test_threads_that_restore_one_memory_bring_it_back_once(store: MemoryStore) -> None:
    barrier = Barrier(4, timeout=20)

    def work(_: int) -> bool:
        barrier.wait()
        try:
            return store.restore("ada", "facts", "home")
        except InvalidInput:
            return False

    for _ in range(10):
        store.put("ada", "facts", "home", {})
        store.archive("ada", [("facts", "home")])
        with ThreadPoolExecutor(4) as pool:
            assert sum(pool.map(work, range(4))) == 1
        store.delete("ada", "facts", "home")


def test_a_put_that_comes_while_a_memory_is_archived_is_not_lost(store: MemoryStore, engine: Engine) -> None:
    store.put("ada", "facts", "home", {"n": "old"})

    with ThreadPoolExecutor(1) as pool, write_transaction(engine) as connection:
        store.in_transaction(connection).archive("ada", [("facts", "home")])
        put = pool.submit(store.put, "ada", "facts", "home", {"n": "new"})
        wait([put], timeout=0.3)

    assert put.result().value == {"n": "new"}
    assert store.get("ada", "facts", "home") == {"n": "new"}
    assert [item.value for item in store.archived("ada")] == [{"n": "old"}]


def test_a_put_that_came_before_a_restore_is_not_overwritten(store: MemoryStore, engine: Engine) -> None:
    """On PostgreSQL the put's row is written and not yet to be seen when the restore comes to the address."""
    store.put("ada", "facts", "home", {"n": "old"})
    store.archive("ada", [("facts", "home")])

    with ThreadPoolExecutor(1) as pool, write_transaction(engine) as connection:
        hold_user(connection, "ada")
        put = pool.submit(store.put, "ada", "facts", "home", {"n": "new"})
        wait([put], timeout=0.3)
        inside = store.in_transaction(connection)
        if put.done():
            with pytest.raises(InvalidInput, match="current memory"):
                inside.restore("ada", "facts", "home")
        else:  # SQLite has one writer at a time: this one came first
            inside.restore("ada", "facts", "home")

    assert put.result().value == store.get("ada", "facts", "home") == {"n": "new"}


def test_archiving_restoring_expiring_and_forgetting_at_one_moment_do_not_deadlock(store: MemoryStore) -> None:
    barrier = Barrier(5, timeout=20)
    addresses = [("facts", f"k{number}") for number in range(5)]

    def work(worker: int) -> None:
        barrier.wait()
        for turn in range(15):
            namespace, key = addresses[turn % 5]
            try:
                match worker:
                    case 0:
                        store.archive("ada", addresses)
                    case 1:
                        store.restore("ada", namespace, key)
                    case 2:
                        store.put_many("ada", [(*address, {}) for address in reversed(addresses)])
                    case 3:
                        store.put("ada", namespace, key, {"turn": turn}, expires_at=START)
                        store.expire("ada")
                    case 4:
                        store.forget_user("ada")
            except InvalidInput:
                assert worker == 1

    with ThreadPoolExecutor(5) as pool:
        list(pool.map(work, range(5)))
