"""Checks of chapter 02: upsert, newest, rename, export. They run on a store of their own."""

import sqlite3
from datetime import UTC, datetime, timedelta

from lib.database.engine import connect, create_tables
from lib.store.memory_store import MemoryStore
from lib.workbook.exercises import exercise, expect, wrong
from lib.workbook.lesson import Clock


def _store() -> tuple[MemoryStore, Clock]:
    engine = connect("sqlite://")
    create_tables(engine)
    clock = Clock(datetime(2026, 3, 3, 18, 30, tzinfo=UTC))
    return MemoryStore(engine, now=clock), clock


@exercise("2.1")
def upsert(answer):
    if not isinstance(answer, str):
        wrong("give the SQL statement as a text.")
    scratch = sqlite3.connect(":memory:")
    scratch.execute("CREATE TABLE notes (user_id, key, value, created_at, updated_at, UNIQUE (user_id, key))")
    for value, now in (("22 May", 1), ("18 June", 2)):
        row = {"user_id": "zoe", "key": "exam_date", "value": value, "now": now}
        try:
            scratch.execute(answer, row)
        except sqlite3.IntegrityError:
            wrong("the second writing of a key fails. After VALUES (…) say what to do ON CONFLICT (user_id, key).")
        except sqlite3.Error as error:
            wrong(f"SQLite can't run it: {error}.")
    rows = scratch.execute("SELECT value, created_at, updated_at FROM notes").fetchall()
    scratch.close()
    if len(rows) != 1:
        wrong(f"after writing one key twice there should be 1 row, and there are {len(rows)}.")
    value, created_at, updated_at = rows[0]
    if value != "18 June":
        wrong(f"the newer value should stand, and {value!r} does. DO UPDATE SET value = excluded.value.")
    if created_at != 1:
        wrong(
            "created_at has moved: a memory is born once. (INSERT OR REPLACE deletes the old row; DO UPDATE keeps it.)"
        )
    if updated_at != 2:
        wrong("updated_at has not moved: the update should set it, too.")


@exercise("2.2")
def newest(answer):
    store, clock = _store()
    expect(answer(store, "zoe", "goals"), None, "where there is no memory, return None")
    for number, text in enumerate(("first", "second", "third")):
        clock.now += timedelta(hours=1)
        store.put("zoe", "goals", f"goal_{number}", {"content": text})
    clock.now += timedelta(hours=1)
    store.put("zoe", "facts", "job", {"content": "in another namespace"})
    store.put("tomas", "goals", "goal_9", {"content": "of another user"})
    why = 'return the "content" of the newest in the namespace that was asked for; search() gives the newest first'
    expect(answer(store, "zoe", "goals"), "third", why)
    store.put("zoe", "goals", "goal_0", {"content": "first, changed"})
    expect(answer(store, "zoe", "goals"), "first, changed", "an updated memory is the newest one again")


@exercise("2.3")
def rename(answer):
    store, _ = _store()
    store.put("zoe", "facts", "cat", {"content": "Pixel"})
    steps = [
        ("dog", "cat", False, {"cat": "Pixel"}, "there is no memory 'dog': return False, and change nothing"),
        ("cat", "pet", True, {"pet": "Pixel"}, "'pet' gets what 'cat' had, and 'cat' goes: return True"),
        ("bird", "pet", False, {"bird": "Gull", "pet": "Pixel"}, "'pet' is taken: return False, and change nothing"),
        ("bird", "bird", False, {"bird": "Gull", "pet": "Pixel"}, "its own name is taken, too: return False"),
    ]
    for old, new, renamed, left, why in steps:
        if old == "bird":
            store.put("zoe", "facts", "bird", {"content": "Gull"})
        expect(answer(store, "zoe", "facts", old, new), renamed, why)
        kept = {item.key: item.value["content"] for item in store.search("zoe")}
        expect(kept, left, f"after renaming {old!r} to {new!r}: {why}")


@exercise("2.4")
def export(answer):
    store, _ = _store()
    store.put_many("zoe", [("facts", f"fact_{n}", {"content": f"Fact {n}"}) for n in range(25)])
    store.put("zoe", "goals", "fact_1", {"content": "A goal with the key of a fact"})
    store.put("tomas", "facts", "fact_1", {"content": "Of Tomás"})
    result = answer(store, "zoe")
    if not isinstance(result, dict) or set(result) != {"facts", "goals"}:
        wrong('return a dict with one entry a namespace: {"facts": {…}, "goals": {…}}.')
    expect(len(result["facts"]), 25, "search() stops at 10 unless told otherwise: see `limit` in its docstring")
    expect(result["facts"].get("fact_1"), {"content": "Fact 1"}, "under facts / fact_1 stands the value")
    goals = {"fact_1": {"content": "A goal with the key of a fact"}}
    expect(result["goals"], goals, "the goal is missing or wrong: two namespaces may use one key")
    expect(answer(store, "nobody"), {}, "for a user without memories, return an empty dict")
