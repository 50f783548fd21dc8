"""How long `retrieve` takes for users with 1,000 to 100,000 memories, and how fast texts are embedded.

The time to embed the question isn't in it: that is the model's, 5 to 10 ms for the local one, and the same however much
is remembered. To run it (about ten minutes, most of them to fill the databases):

    uv run pytest -n0 -s tests/benchmarks/test_retrieval_speed.py

It prints a table, and keeps it in data/benchmarks/retrieval_speed.csv.
"""

import csv
import json
import os
import platform
import statistics
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import text

from lib.database.engine import connect, create_tables
from lib.database.transactions import autocommit_connection
from lib.llm._cached_embedder import CachedEmbedder
from lib.llm.embeddings import LocalEmbedder
from lib.practice.local_postgres import LocalPostgres, start_postgres
from lib.retrieval.search import reembed, retrieve
from lib.store.memory_store import MemoryStore

DATA = Path(__file__).parents[2] / "data"
RESULTS = DATA / "benchmarks" / "retrieval_speed.csv"
COLUMNS = (
    "measure", "database", "memories", "p50", "p95", "unit", "target", "date", "python", "postgres", "machine",
)  # fmt: skip
DATABASES = ("SQLite file", "PostgreSQL")
WORDS = 20_000  # in the vocabulary; how often each comes follows Zipf's law, as in a language
LENGTH = 14  # words of a memory
WARM_UP, QUESTIONS = 10, 60

# Milliseconds that the median may take.
TARGETS = {
    ("SQLite file", 1_000): 15,
    ("SQLite file", 10_000): 40,
    ("SQLite file", 100_000): 150,
    ("PostgreSQL", 1_000): 15,
    ("PostgreSQL", 10_000): 40,
    ("PostgreSQL", 100_000): 60,
}
TEXTS_A_SECOND = 60  # of the local model, on two cores; what we want at least


class ZipfEmbedder(CachedEmbedder):
    """A text's vector is the sum of its words', which are drawn once; a thousand times as fast as a model."""

    name, dimensions, batch = "zipf", 384, 4096

    def __init__(self) -> None:
        super().__init__()
        self.drawn = np.random.default_rng(11).standard_normal((WORDS, self.dimensions)).astype(np.float32)

    def _embed_batch(self, texts: list[str]) -> np.ndarray:
        vectors = np.stack([self.drawn[[int(word[1:]) for word in text.split()]].sum(axis=0) for text in texts])
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def server() -> Iterator[LocalPostgres]:
    with start_postgres() as server:
        yield server


@pytest.fixture(scope="module")
def report() -> Iterator[list[dict[str, Any]]]:
    rows: list[dict[str, Any]] = []
    yield rows
    print("\n\n" + table(rows))
    write(rows)


@pytest.fixture(scope="module")
def embedder() -> ZipfEmbedder:
    return ZipfEmbedder()


@pytest.fixture(scope="module", params=DATABASES)
def store(
    request: pytest.FixtureRequest, server: LocalPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MemoryStore]:
    """One database for users of all sizes, as in life: the smaller ones lie among the memories of the larger."""
    url = server.url if request.param == "PostgreSQL" else f"sqlite:///{tmp_path_factory.mktemp('speed') / 'speed.db'}"
    engine = connect(url)
    create_tables(engine)
    yield MemoryStore(engine)
    engine.dispose()


def test_texts_are_embedded_fast_enough_by_the_local_model(report: list, server: LocalPostgres) -> None:
    # The first of all, because PostgreSQL is busy with its tables for a minute after they were filled.
    with (DATA / "conversations.jsonl").open(encoding="utf-8") as file:
        texts = [turn["text"] for line in file for turn in json.loads(line)["turns"]]
    embedder = LocalEmbedder()
    embedder.embed(["load the model"])

    speeds = []
    for start in range(0, len(texts), 100):
        some, began = texts[start : start + 100], time.perf_counter()
        embedder.embed(some)
        speeds.append(len(some) / (time.perf_counter() - began))

    row = note(report, "embed turns", "none", len(texts), speeds, "texts a second", TEXTS_A_SECOND, server)
    assert float(row["p50"]) >= row["target"], row


@pytest.mark.parametrize("size", (1_000, 10_000, 100_000))
def test_the_memories_that_answer_are_found_in_the_time_promised(
    store: MemoryStore, size: int, embedder: ZipfEmbedder, report: list, server: LocalPostgres
) -> None:
    on_postgres = store.engine.dialect.name == "postgresql"
    database, user_id = DATABASES[on_postgres], f"user-{size}"
    fill(store, user_id, size, embedder)
    questions = [" ".join(f"w{word}" for word in words) for words in zipf(WARM_UP + QUESTIONS, 6, seed=5)]
    embedder.embed(questions)

    times = []
    for question in questions:
        start = time.perf_counter()
        found = retrieve(store, user_id, question, embedder=embedder)
        times.append(1000 * (time.perf_counter() - start))
    times = times[WARM_UP:]

    assert len(found) == 5
    row = note(report, "retrieve", database, size, times, "ms", TARGETS[database, size], server)
    assert float(row["p50"]) <= row["target"], row


def zipf(count: int, length: int, *, seed: int) -> np.ndarray:
    """Words by their number, shape (count, length); number 0 comes most often."""
    weights = 1 / np.arange(2, WORDS + 2)
    return np.random.default_rng(seed).choice(WORDS, (count, length), p=weights / weights.sum())


def fill(store: MemoryStore, user_id: str, size: int, embedder: ZipfEmbedder) -> None:
    start = time.perf_counter()
    contents = (" ".join(f"w{word}" for word in words) for words in zipf(size, LENGTH, seed=size))
    store.put_many(user_id, [("facts", f"key-{n}", {"content": content}) for n, content in enumerate(contents)])
    reembed(store, user_id, embedder, progress=False)
    if store.engine.dialect.name == "postgresql":
        with autocommit_connection(store.engine) as connection:
            connection.execute(text("ANALYZE"))  # it comes by itself within a minute
    print(f"{user_id} on {store.engine.dialect.name}: filled in {time.perf_counter() - start:.0f} s")


def note(
    report: list, measure: str, database: str, memories: int, values: list[float], unit: str, target: float,
    server: LocalPostgres,
) -> dict[str, Any]:  # fmt: skip
    """Add a row to the report. p95: the value that 95 percent of the calls are as good as."""
    worse = sorted(values, reverse=unit != "ms")
    row = {
        "measure": measure,
        "database": database,
        "memories": memories,
        "p50": f"{statistics.median(values):.1f}",
        "p95": f"{worse[min(len(worse) - 1, int(0.95 * len(worse)))]:.1f}",
        "unit": unit,
        "target": target,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "python": platform.python_version(),
        "postgres": server.version if database == "PostgreSQL" else "",
        "machine": f"{os.cpu_count()} processor cores",
    }
    report.append(row)
    return row


def table(rows: list[dict[str, Any]]) -> str:
    lines = [f"{'measure':<12} {'database':<12} {'memories':>9} {'p50':>7} {'p95':>7} {'target':>7}  unit"]
    for row in rows:
        p50, target = float(row["p50"]), row["target"]
        missed = "  MISSED" if (p50 > target if row["unit"] == "ms" else p50 < target) else ""
        lines.append(
            f"{row['measure']:<12} {row['database']:<12} {row['memories']:>9,} {row['p50']:>7} {row['p95']:>7} "
            f"{target:>7}  {row['unit']}{missed}"
        )
    return "\n".join(lines)


def write(rows: list[dict[str, Any]]) -> None:
    """Into the CSV file, in place of earlier rows of the same measures; a run of one test keeps the others' rows."""

    def place(row: dict[str, Any]) -> tuple[str, str, int]:
        return row["measure"], row["database"], int(row["memories"])

    fresh = {place(row) for row in rows}
    kept: list[dict[str, Any]] = []
    if RESULTS.exists():
        with RESULTS.open(newline="", encoding="utf-8") as file:
            kept = [row for row in csv.DictReader(file) if place(row) not in fresh]
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(kept + rows, key=place))
