"""Every statement about rows of users names the user: so the tables may be parted by user_id, over servers too."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from conftest import Clock
from sqlalchemy import Engine, Select, TextClause, event, select, text
from sqlalchemy.dialects import sqlite
from word_embedder import WordEmbedder

from lib.agent.system_prompt import build_system_prompt
from lib.cache.cache_key import content_hash
from lib.cache.content_cache import ContentCache
from lib.cache.scope import SHARED, for_user
from lib.database._triggers import TRIGGERS
from lib.database.tables import Base, Memory
from lib.formation.consolidation import consolidate, merge_near_duplicates
from lib.formation.extraction import extract_pending
from lib.formation.procedures import learn_procedures
from lib.formation.session_log import SessionLog
from lib.llm.chat import chat_model
from lib.practice.practice_model import start_practice_model
from lib.retrieval.search import reembed, retrieve
from lib.store._found_by_id import of_user
from lib.store.memory_store import MemoryStore

TRANSCRIPT = [
    {"turn": 1, "speaker": "user", "text": "Hi! I work at a hospital in Lund. My exam is on Friday 22 May 2026."},
    {"turn": 2, "speaker": "assistant", "text": "Noted."},
]
OURS = [name for name, table in Base.metadata.tables.items() if name == "users" or "user_id" in table.columns]
# The terms of all users in SQLite's full-text index have no user beside them, but in them: see `token` there.
_TABLE = rf"(?:{'|'.join(OURS)})"
_MENTION = re.compile(rf"\b(?:FROM|JOIN|UPDATE|INTO)\s+(?:ONLY\s+)?({_TABLE})\b", re.I)
_BOUND = r"(?:\?|[%:]\(?\w+\)?s?|(?:old|[a-z]\w*)\.user_id)"
# What is in the cache for everybody has no user; to say so is to name whose it is, too.
_CONDITION = re.compile(
    rf"\b(?:(?:user_id|users\.id)\s*=\s*{_BOUND}|(?:content_cache|cache_leases)\.user_id IS NULL)", re.I
)
_MANY = re.compile(r"(?:(?:\?|%\(\w+\)s(?:::\w+)?), )+")  # parameters, of which a message shows the last
_INSERT = re.compile(rf"INSERT INTO ({_TABLE})\s*\(([^)]*)\)", re.I)


def unnamed(statement: str) -> int:
    """How many tables with rows of users a statement reads or writes without a condition on the user for them."""
    inserts = [table for table, columns in _INSERT.findall(statement) if owner_column(table) in names(columns)]
    return len(_MENTION.findall(statement)) - len(inserts) - len(_CONDITION.findall(statement))


def owner_column(table: str) -> str:
    return "id" if table == "users" else "user_id"


def names(columns: str) -> list[str]:
    return [name.strip(' "') for name in columns.split(",")]


@contextmanager
def recorded(engine: Engine) -> Iterator[list[str]]:
    """All statements on this engine: where somebody listens, those of the fast path go by SQLAlchemy, as they are."""
    statements: list[str] = []

    def listen(connection, cursor, statement, *rest) -> None:
        statements.append(" ".join(statement.split()))

    event.listen(engine, "before_cursor_execute", listen)
    try:
        yield statements
    finally:
        event.remove(engine, "before_cursor_execute", listen)


@pytest.fixture(scope="module")
def server():
    with start_practice_model() as server:
        yield server


@pytest.fixture
def model(server):
    return chat_model(practice=server, max_retries=0, timeout=10)


def test_every_statement_names_the_user_whose_rows_it_is_about(
    engine: Engine, store: MemoryStore, clock: Clock, model
) -> None:
    with recorded(engine) as statements:
        remember(store, clock)
        form(store, SessionLog(engine, now=clock), clock, model)
        search(store)
        generate(engine, clock)
        forget(store, clock)

    wrong = sorted({_MANY.sub("…, ", said) for said in statements if unnamed(said) > 0})
    assert not wrong, f"{len(wrong)} statements without their user:\n" + "\n".join(wrong)
    touched = {table for said in statements for table in _MENTION.findall(said)}
    assert touched == {*OURS}
    assert len(set(statements)) > 40


def remember(store: MemoryStore, clock: Clock) -> None:
    store.put("ada", "facts", "city", {"content": "Ada lives in Rome.", "session": "s1"})
    clock.advance(hours=1)
    store.put("ada", "facts", "city", {"content": "Ada lives in Lund.", "session": "s1", "subject": "Ada"})
    store.put("ada", "facts", "soon", {"content": "b"}, expires_at=clock() + timedelta(hours=1))
    store.put_many("ada", [("facts", f"k{n}", {"content": f"a{n}", "n": n, "session": "s2"}) for n in range(1100)])
    store.get("ada", "facts", "city")
    store.search("ada")
    store.search("ada", "facts")
    store.search("ada", filter={"n": 7}, topics=["t"], key_prefix="k", since=clock(), until=clock(), min_confidence=0.5)
    store.search_by_content("ada", "LUND")
    store.history("ada", "facts", "city")
    store.list_namespaces("ada")
    store.archive("ada", [("facts", "k2"), ("facts", "k3")], reason="old")
    store.archived("ada", "facts")
    store.restore("ada", "facts", "k2")
    store.delete("ada", "facts", "k1")
    with store.locked_transaction("ada") as inside:
        inside.put("ada", "rules", "k", {})
        inside.get("ada", "rules", "k")
        inside.delete("ada", "rules", "k")


def form(store: MemoryStore, log: SessionLog, clock: Clock, model) -> None:
    log.finish("ada", TRANSCRIPT)
    assert extract_pending(log, store, model, user_id="ada").extracted == 1
    log.finish("ada", TRANSCRIPT)
    log.fail(log.claim("ada"), "no reason")
    assert log.retry_failed("ada") == 1
    log.give_back(log.claim("ada"))
    log.list("ada", "pending")
    log.counts("ada")
    for key in ("monday", "tuesday"):
        value = {"content": "Ada mixed up lists, and understood after a drawing.", "type": "episodic", "topics": ["p"]}
        store.put("ada", "episodes", key, value | {"said_at": clock().isoformat()})
    learn_procedures(model, store, "ada")
    assert consolidate(store, "ada", model, week=clock().date()).archived == 2
    store.put("ada", "facts", "again", {"content": "Ada lives in Lund."})
    assert merge_near_duplicates(store, "ada")


def search(store: MemoryStore) -> None:
    embedder = WordEmbedder()
    reembed(store, "ada", embedder, progress=False)
    found = retrieve(store, "ada", "Where does Ada live? a7", embedder=embedder)
    retrieve(store, "ada", "Where does Ada live?", embedder=embedder, key_prefix="c", namespaces=["facts"])
    store.put("ada", "facts", "city", {"content": "Ada lives in Oslo.", "session": "s1"})
    retrieve(store, "ada", "Oslo", embedder=embedder)
    build_system_prompt(store, "ada", "You help.", namespaces=["facts"])
    assert found


def generate(engine: Engine, clock: Clock) -> None:
    cache = ContentCache(engine, now=clock)
    for scope in (SHARED, for_user("ada")):
        for number in range(3):
            address = {"key": content_hash(number), "content_type": "lesson", "scope": scope}
            for _ in range(2):
                cache.get_or_generate(generate=lambda: {"text": "S3"}, **address)
        cache.put(generated={}, **address)
        cache.get(**address)
        cache.flush()
        cache.invalidate(**address)
        assert cache.invalidate_type("lesson", scope=scope) == 2
    with pytest.raises(ZeroDivisionError):
        cache.get_or_generate(generate=lambda: 1 / 0, **address)


def forget(store: MemoryStore, clock: Clock) -> None:
    clock.advance(hours=2)
    store.expire("ada")
    store.clear("ada", "facts")
    assert store.forget_user("ada").memories


def test_those_about_all_users_are_calls_of_workers_and_operators(engine: Engine, clock: Clock) -> None:
    """SessionLog without a user: `claim`, `retry_failed`, `list` and `counts`, and `get` always; all on `sessions`."""
    log = SessionLog(engine, now=clock)
    for user_id in ("ada", "bob"):
        session_id = log.finish(user_id, TRANSCRIPT)

    for call in (log.claim, lambda: log.get(session_id), log.list, log.counts, log.retry_failed):
        with recorded(engine) as statements:
            call()
        about_all = [statement for statement in statements if unnamed(statement)]
        assert len(about_all) == 1
        assert {table for statement in about_all for table in _MENTION.findall(statement)} == {"sessions"}
        assert about_all[0].startswith("SELECT"), "what a worker changes names its user"


def test_sqlite_finds_rows_by_their_ids_and_not_by_their_user(sqlite_engine: Engine) -> None:
    """It takes any index by user for better than a list of ids; a user may have ten thousand memories."""
    by_id = Memory.id.in_(["1", "2"])

    with sqlite_engine.connect() as connection:
        plans = [
            connection.execute(explained(select(Memory.id).where(by_id, condition))).one().detail
            for condition in (of_user(Memory.user_id, "ada"), Memory.user_id == "ada")
        ]

    assert ["(id=?)" in plan for plan in plans] == [True, False]


def explained(query: Select) -> TextClause:
    return text(f"EXPLAIN QUERY PLAN {query.compile(dialect=sqlite.dialect(), compile_kwargs={'literal_binds': True})}")


def test_evicting_and_invalidating_for_all_are_calls_of_operators(engine: Engine, clock: Clock) -> None:
    cache = ContentCache(engine, now=clock)

    with recorded(engine) as statements:
        cache.put(content_hash("a"), {}, content_type="lesson", scope=SHARED)
        cache.evict(max_entries=0, older_than=timedelta(days=1))
        cache.invalidate_type("lesson")

    about_all = [statement for statement in statements if unnamed(statement) > 0]
    assert {table for said in about_all for table in _MENTION.findall(said)} == {"content_cache", "cache_leases"}


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
def test_so_do_the_statements_in_triggers(dialect: str) -> None:
    bodies = [part for trigger in TRIGGERS[dialect] for part in statements_in(trigger)]

    assert len(bodies) >= 3
    assert [body for body in bodies if unnamed(body) > 0] == []


def statements_in(trigger: str) -> list[str]:
    """The statements of a trigger, or of a trigger's function."""
    found = re.search(r"(?:BEGIN|DECLARE)\b(.*)\bEND\b", trigger, re.S)
    if not found or not re.match(r"CREATE (?:OR REPLACE )?(?:TRIGGER|FUNCTION)", trigger):
        return []
    return [part for part in found.group(1).split(";") if _MENTION.search(part)]


@pytest.mark.parametrize(
    ("statement", "missing"),
    [
        ("SELECT * FROM memories", 1),
        ("SELECT * FROM memories WHERE memories.user_id = %(user_id)s::VARCHAR AND key = 'k'", 0),
        ("SELECT * FROM memories WHERE user_id <> ?", 1),
        ("SELECT * FROM memories WHERE user_id IN (SELECT id FROM users)", 2),
        ("SELECT * FROM memories m JOIN sessions s ON s.id = m.id WHERE m.user_id = :user_id", 1),
        ("SELECT * FROM memories m JOIN sessions s ON s.user_id = m.user_id WHERE m.user_id = ?", 0),
        ("INSERT INTO memories (id, user_id, key) VALUES (?, ?, ?)", 0),
        ("INSERT INTO memories (id, key) VALUES (?, ?)", 1),
        ("INSERT INTO users (id, created_at) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET created_at = ?", 0),
        ("INSERT INTO archived_memories (id, user_id) SELECT id, user_id FROM memories WHERE id = ?", 1),
        ("SELECT content FROM content_cache WHERE content_cache.content_hash = ?", 1),
        ("SELECT content FROM content_cache WHERE content_cache.user_id IS NULL", 0),
        ("SELECT value FROM memories WHERE memories.user_id IS NULL", 1),
        ("SELECT users.id FROM users WHERE users.id = ? FOR UPDATE", 0),
        ("ANALYZE memories (user_id)", 0),
    ],
)
def test_the_check_sees_a_table_without_its_user(statement: str, missing: int) -> None:
    assert unnamed(statement) == missing
