"""Checks of chapter 02: upsert, newest, rename, export. They run on a store of their own."""

import sqlite3
from datetime import UTC, datetime, timedelta

from lib.database.engine import connect, create_tables
from lib.store.memory_store import MemoryStore
from lib.workbook.exercises import exercise, wrong
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
    if answer(store, "zoe", "goals") is not None:
        wrong("where there is no memory, return None.")
    for number, text in enumerate(("first", "second", "third")):
        clock.now += timedelta(hours=1)
        store.put("zoe", "goals", f"goal_{number}", {"content": text})
    clock.now += timedelta(hours=1)
    store.put("zoe", "facts", "job", {"content": "in another namespace"})
    store.put("tomas", "goals", "goal_9", {"content": "of another user"})
    result = answer(store, "zoe", "goals")
    if result in ("in another namespace", "of another user"):
        wrong(f"you return a memory {result}. Search with the user and the namespace that were asked for.")
    if result == "first":
        wrong("that is the oldest one. search() gives the newest first.")
    if not isinstance(result, str):
        wrong(f'return the text in "content", not a {type(result).__name__}.')
    if result != "third":
        wrong(f"the newest is 'third', and you return {result!r}.")
    store.put("zoe", "goals", "goal_0", {"content": "first, changed"})
    if answer(store, "zoe", "goals") != "first, changed":
        wrong("an updated memory is the newest one again; did you keep an answer from before?")


@exercise("2.3")
def rename(answer):
    store, _ = _store()
    store.put("zoe", "facts", "cat", {"content": "Pixel"})
    if answer(store, "zoe", "facts", "dog", "cat") is not False:
        wrong("there is no memory 'dog', so nothing can be renamed: return False.")
    if store.get("zoe", "facts", "cat") != {"content": "Pixel"}:
        wrong("renaming a memory that doesn't exist destroyed another one.")
    if answer(store, "zoe", "facts", "cat", "pet") is not True:
        wrong("renaming 'cat' to 'pet' should work, and return True.")
    if store.get("zoe", "facts", "pet") != {"content": "Pixel"}:
        wrong("after the renaming, the new key doesn't have the value.")
    if store.get("zoe", "facts", "cat") is not None:
        wrong("after the renaming, the old key is still there.")
    store.put("zoe", "facts", "bird", {"content": "Gull"})
    if answer(store, "zoe", "facts", "bird", "pet") is not False or store.get("zoe", "facts", "bird") is None:
        wrong("'pet' is taken: renaming 'bird' to it should return False and leave 'bird' alone.")
    if store.get("zoe", "facts", "pet") != {"content": "Pixel"}:
        wrong("the new name was taken, and you wrote over the memory that had it.")
    if answer(store, "zoe", "facts", "bird", "bird") is not False or store.get("zoe", "facts", "bird") is None:
        wrong("renaming a memory to its own name lost it.")


@exercise("2.4")
def export(answer):
    store, _ = _store()
    store.put_many("zoe", [("facts", f"fact_{n}", {"content": f"Fact {n}"}) for n in range(25)])
    store.put("zoe", "goals", "fact_1", {"content": "A goal with the key of a fact"})
    store.put("tomas", "facts", "fact_1", {"content": "Of Tomás"})
    result = answer(store, "zoe")
    if not isinstance(result, dict) or set(result) != {"facts", "goals"}:
        wrong('return a dict with one entry a namespace: {"facts": {…}, "goals": {…}}.')
    if len(result["facts"]) == 10:
        wrong("only ten facts: search() stops at 10 unless told otherwise. See `limit` in its docstring.")
    if len(result["facts"]) != 25:
        wrong(f"there are 25 facts, and you export {len(result['facts'])}.")
    if result["facts"].get("fact_1") != {"content": "Fact 1"}:
        wrong(f"under facts / fact_1 stands {result['facts'].get('fact_1')!r} instead of the value.")
    if result["goals"] != {"fact_1": {"content": "A goal with the key of a fact"}}:
        wrong("the goal is missing or wrong: two namespaces may use one key.")
    if answer(store, "nobody") != {}:
        wrong("for a user without memories, return an empty dict.")
