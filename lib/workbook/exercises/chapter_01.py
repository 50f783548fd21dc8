"""Checks of chapter 01: time, values, places, indexes."""

import sqlite3
from datetime import UTC, datetime

from lib.store.values import prepare
from lib.workbook.exercises import exercise, expect, wrong
from lib.workbook.lesson import load_memories


@exercise("1.1")
def parse_moment(answer):
    result = answer("2026-03-03T19:30:00+01:00")
    if not isinstance(result, datetime) or result.utcoffset() is None:
        wrong(f"return a datetime with a time zone, not {result!r}. datetime.fromisoformat reads the text.")
    if result != datetime(2026, 3, 3, 18, 30, tzinfo=UTC):
        wrong(
            f"19:30 at +01:00 is 18:30 in UTC, and you return {result.isoformat()}. "
            "replace(tzinfo=UTC) only changes the label; astimezone(UTC) converts."
        )
    if result.tzinfo != UTC:
        wrong(f"the instant is right, but it is written as {result.isoformat()}; convert it with astimezone(UTC).")
    expect(
        answer("2026-03-03T19:30:00"),
        datetime(2026, 3, 3, 19, 30, tzinfo=UTC),
        "a text without an offset is in UTC here",
    )


@exercise("1.2")
def episode(answer):
    if not isinstance(answer, dict):
        wrong(f"a value is a dict, and this is a {type(answer).__name__}.")
    prepare(answer)
    if answer.get("type") != "episodic":
        wrong(f'"type" should be "episodic", and is {answer.get("type")!r}.')
    if not isinstance(answer.get("content"), str) or len(answer["content"]) < 10:
        wrong('"content" should be a sentence: somebody will read it without the conversation.')
    if not isinstance(answer.get("topics"), list) or not answer["topics"]:
        wrong('"topics" should be a list of texts, even if there is only one, so that it can be searched.')
    confidence = answer.get("confidence")
    if isinstance(confidence, bool) or not isinstance(confidence, int | float) or not 0 < confidence <= 1:
        wrong(f'"confidence" should be a number above 0 and up to 1, and is {confidence!r}.')


@exercise("1.3")
def place(answer):
    for memory in load_memories("tomas")[:12]:
        result = answer(memory)
        if not isinstance(result, tuple) or len(result) != 3:
            wrong("return three things: namespace, key, value.")
        namespace, key, value = result
        expect(namespace, memory["namespace"], f"{memory['id']} has a namespace")
        if key == memory["id"]:
            wrong("with the id as the key, a corrected fact would never replace the old one. Use the memory's key.")
        expect(key, memory["key"], f"{memory['id']} has a key")
        if not isinstance(value, dict) or value.get("content") != memory["content"]:
            wrong('the value should be a dict with the memory\'s "content".')
        if missing := {"type", "topics", "confidence"} - set(value):
            wrong(f"the value has lost {', '.join(sorted(missing))}; searches will need that.")
        if again := {"namespace", "key", "person"} & set(value):
            wrong(f"{', '.join(sorted(again))} stands in a column already; kept twice, the two will disagree one day.")


@exercise("1.4")
def index_that_orders(answer):
    if isinstance(answer, str) or not all(isinstance(column, str) for column in answer):
        wrong('give a list of texts, such as ["user_id", "key"].')
    with sqlite3.connect(":memory:") as scratch:
        scratch.execute("CREATE TABLE memories (user_id, namespace, key, value, updated_at)")
        try:
            scratch.execute(f"CREATE INDEX ix ON memories ({', '.join(answer)})")
        except sqlite3.OperationalError as error:
            wrong(f"SQLite refuses this index: {error}.")
        query = (
            "SELECT key FROM memories WHERE user_id = 'zoe' AND namespace = 'facts' ORDER BY updated_at DESC LIMIT 10"
        )
        plan = " / ".join(row[3] for row in scratch.execute(f"EXPLAIN QUERY PLAN {query}"))
    scratch.close()
    if "USING INDEX ix (user_id=? AND namespace=?)" not in plan and "COVERING INDEX ix (user_id=? AND name" not in plan:
        wrong(
            f"the index doesn't lead to one user's namespace. SQLite's plan: {plan}. Start with the two that are known."
        )
    if "TEMP B-TREE" in plan:
        wrong(f"found by the index, but sorted by hand. SQLite's plan: {plan}. Which column should come third?")
