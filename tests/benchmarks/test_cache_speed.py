"""What a hit of the cache costs, beside a bare select of its row and LangChain's SQLAlchemyCache; and more entries.

Ratios only, by turns on one core, as in test_store_speed.py. To run it (about two minutes):

    uv run --group benchmark pytest -n0 -s tests/benchmarks/test_cache_speed.py

It prints the table of ratios, and keeps it in data/benchmarks/cache_speed.csv.
"""

import csv
import os
import platform
import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from key_inputs import assert_all_different
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration
from sqlalchemy import Engine, select, text, update
from test_store_speed import COLUMNS, new_database, one_core, servers, take_turns  # noqa: F401 - two are fixtures

from lib.cache._rows import Entry
from lib.cache.cache_key import content_hash
from lib.cache.content import Generated
from lib.cache.content_cache import ContentCache
from lib.cache.langchain_cache import LangChainCache
from lib.cache.scope import SHARED
from lib.database._side_tables import CachedContent
from lib.database.engine import connect, create_tables
from lib.database.tables import new_id, utcnow
from lib.database.transactions import autocommit_connection
from lib.practice.local_postgres import LocalPostgres

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it says that it isn't developed any further
    from langchain_community.cache import SQLAlchemyCache

RESULTS = Path(__file__).parents[2] / "data" / "benchmarks" / "cache_speed.csv"
DATABASES = ("SQLite file", "SQLite memory", "PostgreSQL", "PostgreSQL flushed")
MANY = 1000  # contents that are asked for
ADDRESS = {"content_type": "lesson", "scope": SHARED}
ANSWER = {"text": "S3 keeps objects in buckets. " * 20, "sources": ["s3", "buckets"], "level": "beginner"}
ROW = CachedContent.__table__
VERSIONS: dict[str, str] = {}  # of the servers

# The largest ratio (ours : theirs) that passes; one for both kinds of database.
TARGETS = {
    "hit : bare select": 1.5,
    "hit : SQLAlchemyCache lookup": 1.0,
    "lookup : SQLAlchemyCache lookup": 1.0,
    "hit, counted in memory : UPDATE per hit": 1.0,
    "hit, 1,000,000 : 1,000 entries": 1.3,
    "hit, 100,000 : 1,000 entries": 1.3,
}


@pytest.fixture(scope="module")
def report() -> Iterator[list[dict[str, Any]]]:
    rows: list[dict[str, Any]] = []
    yield rows
    for row in rows:
        print(f"\n{row['measure']:<42} {row['database']:<19} {row['ours_us']:>8} {row['theirs_us']:>8} {row['ratio']}")
    write(rows)


@pytest.fixture(scope="module", params=DATABASES)
def database(
    request: pytest.FixtureRequest,
    servers: dict[str, LocalPostgres],  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[str, Engine]]:
    if request.param in servers:
        VERSIONS[request.param] = servers[request.param].version
        url = new_database(servers[request.param].url, "cache")
    else:
        url = f"sqlite:///{tmp_path_factory.mktemp('cache') / 'cache.db'}"
    engine = connect("sqlite://" if request.param == "SQLite memory" else url)
    create_tables(engine)
    fill(ContentCache(engine))
    quieten(engine)
    yield request.param, engine
    engine.dispose()


@pytest.fixture(scope="module", params=("SQLite file", "PostgreSQL"))
def sizes(
    request: pytest.FixtureRequest,
    servers: dict[str, LocalPostgres],  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[str, int, Engine, Engine]]:
    """(database, how many entries the large one has, the large one, the small one)"""
    large = 1_000_000 if request.param in servers else 100_000
    with ExitStack() as stack:
        engines = []
        for name, more in (("large", large - MANY), ("small", 0)):
            if request.param in servers:
                url = new_database(servers[request.param].url, f"cache_{name}")
            else:
                url = f"sqlite:///{tmp_path_factory.mktemp('sizes') / f'{name}.db'}"
            engines.append(engine := connect(url))
            stack.callback(engine.dispose)
            create_tables(engine)
            fill(ContentCache(engine))
            add_others(engine, more)
            quieten(engine)
        yield request.param, large, *engines


def test_a_hit_costs_little_more_than_a_bare_select_of_the_same_row(database: tuple[str, Engine], report: list) -> None:
    name, engine = database
    choose, hashes = random.Random(7), {key: Entry.of(key, "lesson", SHARED).content_hash for key in keys()}

    def bare_select() -> Any:
        query = select(ROW.c.content).where(ROW.c.content_hash == hashes[choose.choice(KEYS)], ROW.c.user_id.is_(None))
        with engine.connect() as connection:
            return connection.execute(query).scalar_one()

    with ContentCache(engine) as cache:
        assert cache.get(KEYS[0], **ADDRESS).content == ANSWER == bare_select()
        times = take_turns(lambda: hit(cache, choose), bare_select, turns=40)

    assert_fast("hit : bare select", name, times, report)


def test_a_hit_is_faster_than_langchains_own_cache(database: tuple[str, Engine], report: list) -> None:
    name, engine = database
    choose = random.Random(7)
    theirs, ours = SQLAlchemyCache(engine), LangChainCache(cache := ContentCache(engine), scope=SHARED)
    prompts = [dumps([SystemMessage("You help."), HumanMessage(f"Explain S3, part {n}.")]) for n in range(MANY)]
    model = '{"id": ["langchain", "chat_models", "openai", "ChatOpenAI"], "kwargs": {"temperature": 0.0}}'
    answer = [ChatGeneration(message=AIMessage(ANSWER["text"], response_metadata={"model_name": "m"}))]
    for prompt in prompts:
        theirs.update(prompt, model, answer)
        ours.update(prompt, model, answer)
    quieten(engine)

    def their_lookup() -> Any:
        return theirs.lookup(choose.choice(prompts), model)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hits = take_turns(lambda: hit(cache, choose), their_lookup, turns=40)
        lookups = take_turns(lambda: ours.lookup(choose.choice(prompts), model), their_lookup, turns=40)
        assert ours.lookup(prompts[0], model)[0].text == theirs.lookup(prompts[0], model)[0].text

    cache.close()
    missed = [
        note("hit : SQLAlchemyCache lookup", name, hits, report),
        note("lookup : SQLAlchemyCache lookup", name, lookups, report),
    ]
    assert not any(missed), missed


def test_counting_in_memory_is_worth_it(database: tuple[str, Engine], report: list) -> None:
    """Against the plain way: one UPDATE for each hit that adds one and returns the content."""
    name, engine = database
    choose, hashes = random.Random(7), [Entry.of(key, "lesson", SHARED).content_hash for key in KEYS]
    one_more = update(ROW).values(access_count=ROW.c.access_count + 1).returning(ROW.c.content)

    def update_returning() -> Any:
        with autocommit_connection(engine) as connection:
            return connection.execute(one_more.where(ROW.c.content_hash == choose.choice(hashes))).scalar_one()

    with ContentCache(engine) as cache:
        times = take_turns(lambda: hit(cache, choose), update_returning, turns=20)

    assert_fast("hit, counted in memory : UPDATE per hit", name, times, report)


def test_a_thousand_times_the_entries_cost_hardly_more(sizes: tuple[str, int, Engine, Engine], report: list) -> None:
    name, count, large, small = sizes
    choose = random.Random(7)

    with ContentCache(large) as in_large, ContentCache(small) as in_small:
        times = take_turns(lambda: hit(in_large, choose), lambda: hit(in_small, choose), turns=60)

    assert_fast(f"hit, {count:,} : {MANY:,} entries", name, times, report)


def test_no_two_of_a_hundred_thousand_inputs_share_a_key() -> None:
    assert_all_different(random.Random(8), 100_000)


def keys() -> list[str]:
    return [content_hash("Explain S3.", part=number) for number in range(MANY)]


KEYS = keys()


def hit(cache: ContentCache, choose: random.Random) -> Any:
    return cache.get_or_generate(choose.choice(KEYS), dict, **ADDRESS)


def fill(cache: ContentCache) -> None:
    for key in KEYS:
        cache.put(key, Generated(ANSWER, 200, 150, "gpt-5.4-mini"), **ADDRESS)


def add_others(engine: Engine, count: int) -> None:
    """Contents that nobody asks for, as many as that."""
    if engine.dialect.name == "postgresql":
        insert = text(
            "INSERT INTO content_cache (id, content_hash, content_type, content, created_at, access_count, size_bytes) "
            "SELECT gen_random_uuid(), encode(sha256(convert_to(n::text, 'UTF8')), 'hex'), 'lesson', "
            "jsonb_build_object('text', repeat('S3 keeps objects. ', 12)), now(), 0, 200 FROM generate_series(1, :n) n"
        )
        with autocommit_connection(engine) as connection:
            connection.execute(insert, {"n": count})
        return
    others = [
        {"id": new_id(), "content_hash": content_hash(n), "content_type": "lesson", "content": ANSWER,
         "created_at": utcnow(), "access_count": 0}
        for n in range(count)
    ]  # fmt: skip
    if others:
        with engine.begin() as connection:
            connection.execute(ROW.insert(), others)


def quieten(engine: Engine) -> None:
    """Statistics now, not at some moment of the run."""
    with autocommit_connection(engine) as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("ALTER TABLE content_cache SET (autovacuum_enabled = off)"))
            connection.execute(text("VACUUM ANALYZE"))
        else:
            connection.execute(text("ANALYZE"))


def assert_fast(measure: str, database: str, times: tuple[float, float], report: list) -> None:
    assert not (missed := note(measure, database, times, report)), missed


def note(measure: str, database: str, times: tuple[float, float], report: list) -> str:
    """Add a row to the report; what was missed, or nothing."""
    ours, theirs = times
    ratio, target = ours / theirs, TARGETS[measure]
    report.append(
        {
            "measure": measure, "database": database, "ours_us": f"{ours:.1f}", "theirs_us": f"{theirs:.1f}",
            "ratio": f"{ratio:.3f}", "target": target, "date": f"{datetime.now(UTC):%Y-%m-%d}",
            "python": platform.python_version(), "postgres": VERSIONS.get(database, ""),
            "machine": f"{os.cpu_count()} processor cores",
        }
    )  # fmt: skip
    return "" if ratio <= target else f"{measure} on {database}: {ours:,.0f} us is {ratio:.2f} times {theirs:,.0f} us"


def write(rows: list[dict[str, Any]]) -> None:
    """In place of earlier rows of the same measures; a run of one test keeps the others' rows."""
    fresh, place = {(row["measure"], row["database"]) for row in rows}, RESULTS
    kept: list[dict[str, Any]] = []
    if place.exists():
        with place.open(newline="", encoding="utf-8") as file:
            kept = [row for row in csv.DictReader(file) if (row["measure"], row["database"]) not in fresh]
    ordered: Callable[[dict[str, Any]], Any] = lambda row: (row["measure"], DATABASES.index(row["database"]))  # noqa: E731
    with place.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(kept + rows, key=ordered))
