"""Checks of chapter 07: a URL's driver, the size of a pool, an index that sorts, jobs twice, and shards."""

import re
import sqlite3
from collections import Counter
from types import FunctionType

from lib.workbook.exercises import exercise, expect, expect_error, try_cases, wrong


@exercise("7.1")
def with_driver(answer):
    cases = {
        "postgres://zoe@db.example/app": "postgresql+psycopg://zoe@db.example/app",
        "postgresql://zoe@db.example/app": "postgresql+psycopg://zoe@db.example/app",
        "postgresql+psycopg://zoe@db.example/app": "postgresql+psycopg://zoe@db.example/app",
        "postgresql+psycopg2://zoe@db.example/app": "postgresql+psycopg2://zoe@db.example/app",
        "sqlite:///memories.db": "sqlite:///memories.db",
        "postgresql://zoe:postgres://x@db.example/postgres": "postgresql+psycopg://zoe:postgres://x@db.example/postgres",
    }
    why = "the whole scheme gets psycopg, unless a driver is named; the rest stays"
    try_cases(answer, [((url,), right, why) for url, right in cases.items()])


@exercise("7.2")
def pool(answer):
    cases = [
        ((100, 10, 1, 6), (5, 10), "each of 6 processes gets 15, and keeps a third of them open"),
        ((100, 3, 2, 8), (2, 4), "round down what each process gets, then round its third up"),
        ((20, 2, 2, 2), (2, 2), "a third of 4 is 2, rounded up"),
        ((10, 1, 1, 9), (1, 0), "one connection, kept open, and no overflow"),
    ]
    try_cases(answer, cases)
    with expect_error(ValueError, "8 processes can't share 7 connections; raise a ValueError for (10, 3, 4, 2)."):
        answer(10, 3, 4, 2)


@exercise("7.3")
def index_for_failed(answer):
    statement = answer()
    if not isinstance(statement, str) or "create" not in statement.lower():
        wrong(f"return the statement as a text, CREATE INDEX … ON sessions (…), not {statement!r}.")
    given = statement
    for pattern in (r"\bCONCURRENTLY\b", r"\bUSING\s+btree\b", r"\bINCLUDE\s*\([^)]*\)"):  # PostgreSQL's alone
        given = re.sub(pattern, "", given, flags=re.IGNORECASE)
    given = re.sub(r"INDEX\s+ON\b", "INDEX unnamed ON", given, flags=re.IGNORECASE)
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE sessions (id TEXT, user_id TEXT, state TEXT, ended_at TEXT)")
    rows = [(str(n), f"user_{n % 7}", ("failed", "extracted")[n % 2], f"2026-03-{n:04}") for n in range(2000)]
    database.executemany("INSERT INTO sessions VALUES (?, ?, ?, ?)", rows)
    try:
        database.execute(given)
    except sqlite3.Error as error:
        wrong(f"the database refuses it: {error}.")
    database.execute("ANALYZE")
    query = "SELECT id FROM sessions WHERE user_id = ? AND state = 'failed' ORDER BY ended_at DESC LIMIT 5"
    plan = " / ".join(row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {query}", ("user_2",)))
    database.close()
    if "USING" not in plan or "INDEX" not in plan:
        wrong(f"the query doesn't use it: {plan}. Begin with a column that it compares with =.")
    if "user_id=?" not in plan:
        wrong(f"it doesn't lead to the user's rows: {plan}.")
    if "TEMP B-TREE" in plan:
        wrong(f"the rows are still sorted: {plan}. After the columns with =, the one that orders.")
    partial = re.search(r"where.*state\s*=\s*'failed'", statement, re.IGNORECASE | re.DOTALL)
    if "state=?" not in plan and not partial:
        wrong(f"it reads all of the user's conversations and throws away those that didn't fail: {plan}.")


@exercise("7.4")
def remind(answer):
    sent, done = [], set()

    def send(user_id, text):
        sent.append((user_id, text))

    for _ in range(3):
        answer("job-1", "zoe", "Your exam is tomorrow.", send, done)
    expect(len(sent), 1, "the job ran three times, as after two crashes, and Zoë gets one mail")
    answer("job-2", "zoe", "Your exam is tomorrow.", send, done)
    expect(len(sent), 2, "another job with the same text is another reminder: tell them apart by the job's id")

    def fails(user_id, text):
        raise ConnectionError("the mail server is away")

    with expect_error(ConnectionError, "the mail server was away, and the job said nothing. Let the error out."):
        answer("job-3", "amelie", "Send the draft.", fails, done)
    answer("job-3", "amelie", "Send the draft.", send, done)
    expect(len(sent), 3, "a job that failed is tried again, and then sends: note that it is done after it is done")


@exercise("7.5")
def shard_of(answer):
    users = [f"user_{number}" for number in range(1000)] + ["Zoë", "日本", "a" * 50]
    result = [answer(user, 8) for user in users]
    for user, shard in zip(users, result, strict=True):
        if not isinstance(shard, int) or isinstance(shard, bool) or not 0 <= shard < 8:
            wrong(f"{user!r} is on shard {shard!r}; return a whole number from 0 to 7.")
    elsewhere = FunctionType(answer.__code__, {**answer.__globals__, "hash": lambda value: hash(("x", value))})
    if not answer.__closure__ and [elsewhere(user, 8) for user in users] != result:
        wrong("Python's hash() of a text is another one in each process: the next process would look elsewhere.")
    if result != [answer(user, 8) for user in users]:
        wrong("asked twice, it gives two answers: then nobody finds their memories again.")
    smallest = min(Counter(result[:1000]).get(shard, 0) for shard in range(8))
    if smallest < 80:
        wrong(f"of 1,000 users, one shard has {smallest}: spread them evenly, by a hash of the whole id.")
    expect({answer(user, 3) for user in users}, {0, 1, 2}, "with 3 shards, the answer is 0, 1 or 2")
