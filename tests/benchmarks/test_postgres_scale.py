"""PostgreSQL with many clients, with and without a pool, and with 100,000 vectors of one user: as ratios of one run.

To run it (about five minutes, most of them to fill the database):

    uv run pytest -n0 -s tests/benchmarks/test_postgres_scale.py

The server flushes to disk, as one in production. It prints a table, and keeps it in data/benchmarks/postgres_scale.csv.
"""

import csv
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
from sqlalchemy import Connection, Engine, text
from test_retrieval_speed import ZipfEmbedder, fill, zipf

from lib.database.engine import connect, create_tables
from lib.database.transactions import read_transaction, write_transaction
from lib.practice.local_postgres import LocalPostgres, start_postgres
from lib.retrieval._candidates import by_vector
from lib.retrieval._vectors import IndexState, state_of
from lib.store.memory_store import MemoryStore
from lib.workbook.trials.load import Throughput, throughput
from lib.workbook.trials.vectors import as_text

RESULTS = Path(__file__).parents[2] / "data" / "benchmarks" / "postgres_scale.csv"
COLUMNS = ("measure", "compared", "value", "other", "ratio", "bound", "unit", "date", "python", "postgres", "machine")
SECONDS, ROUNDS = 1.0, 3  # of each measure of many clients; the best round counts
CLIENTS = (1, 2, 4, 8)
VECTORS, QUESTIONS, NEAREST = 100_000, 120, 10
RECALL = 0.95

# What a ratio must keep to, on a machine that is busy with other things as well.
AT_LEAST = {
    # More clients than cores don't make it faster, but must not make it slow: nobody waits for another's locks.
    "puts, 8 clients : 1": 0.8,
    "reads, 8 clients : 1": 0.8,
    # To open a connection takes the server a new process.
    "puts, pooled : unpooled": 2.0,
    "reads, pooled : unpooled": 5.0,
    "recall@10, HNSW : exact": RECALL,
    "time, exact : HNSW": 3.0,
}


@pytest.fixture(scope="module")
def server() -> Iterator[LocalPostgres]:
    with start_postgres(durable=True) as server:
        yield server


@pytest.fixture(scope="module")
def engine(server: LocalPostgres) -> Iterator[Engine]:
    engine = connect(server.url)
    create_tables(engine)
    yield engine
    engine.dispose()


class Report:
    """Rows of the table; `hold` compares the ratios with their bounds when all are noted."""

    def __init__(self, postgres: str) -> None:
        self.postgres = postgres
        self.rows: list[dict[str, Any]] = []

    def note(self, measure: str, compared: str, value: float, other: float, unit: str) -> None:
        self.rows.append(
            {
                "measure": measure, "compared": compared, "value": f"{value:.5g}", "other": f"{other:.5g}",
                "ratio": f"{value / other:.2f}", "bound": AT_LEAST.get(f"{measure}, {compared}", ""), "unit": unit,
                "date": f"{datetime.now(UTC):%Y-%m-%d}", "python": platform.python_version(),
                "postgres": self.postgres, "machine": f"{os.cpu_count()} processor cores",
            }
        )  # fmt: skip

    def hold(self) -> None:
        missed = [row for row in self.rows if row["bound"] != "" and float(row["ratio"]) < row["bound"]]
        assert not missed, table(missed)


@pytest.fixture(scope="module")
def report(server: LocalPostgres) -> Iterator[Report]:
    report = Report(server.version)
    yield report
    print("\n\n" + table(report.rows))
    write(report.rows)


def best(engine: Engine, *cases: tuple[int, bool]) -> list[Throughput]:
    """The best throughput of each (clients, pooled), measured in turns."""
    rounds = [[throughput(engine, clients, SECONDS, pooled=pooled) for clients, pooled in cases] for _ in range(ROUNDS)]
    return [
        Throughput(case[0].clients, max(t.puts_per_second for t in case), max(t.reads_per_second for t in case))
        for case in zip(*rounds, strict=True)
    ]


def test_many_clients_together_do_no_less_than_one(engine: Engine, report: Report) -> None:
    one, *more = best(engine, *((clients, True) for clients in CLIENTS))

    for many in more:
        compared = f"{many.clients} clients : 1"
        report.note("puts", compared, many.puts_per_second, one.puts_per_second, "a second")
        report.note("reads", compared, many.reads_per_second, one.reads_per_second, "a second")
    report.hold()


def test_a_pool_of_connections_pays(engine: Engine, report: Report) -> None:
    pooled, unpooled = best(engine, (1, True), (1, False))

    report.note("puts", "pooled : unpooled", pooled.puts_per_second, unpooled.puts_per_second, "a second")
    report.note("reads", "pooled : unpooled", pooled.reads_per_second, unpooled.reads_per_second, "a second")
    report.hold()


def test_the_approximate_index_finds_nearly_what_the_exact_search_finds_and_sooner(
    engine: Engine, report: Report
) -> None:
    store, embedder, user_id = MemoryStore(engine), ZipfEmbedder(), "ada"
    fill(store, user_id, VECTORS, embedder)
    questions = embedder.embed([" ".join(f"w{word}" for word in words) for words in zipf(QUESTIONS, 6, seed=5)])
    found: dict[str, list[list[int]]] = {"HNSW": [], "exact": [], "in memory": []}
    times: dict[str, list[float]] = {name: [] for name in found}

    build_vectors(engine)
    with read_transaction(engine) as connection:
        state = state_of(connection, user_id, embedder.name)
        by = {
            "HNSW": lambda question: nearest(connection, user_id, question, indexed=True),
            "exact": lambda question: nearest(connection, user_id, question, indexed=False),
            # The matrix of all vectors, which this process keeps: 154 MB for each such user.
            "in memory": lambda question: in_memory(engine, connection, user_id, embedder.name, question, state),
        }
        for some in np.array_split(questions, 4):
            # In turns, so that a busy time hits all of them; but not question by question, because each search would
            # then find in the server's memory what another one has left there.
            for name, search in by.items():
                for question in some:
                    began = time.perf_counter()
                    found[name].append(search(question))
                    times[name].append(1000 * (time.perf_counter() - began))

    recall = statistics.mean(len(set(a) & set(b)) / NEAREST for a, b in zip(found["HNSW"], found["exact"], strict=True))
    # The lower quartile, because on a busy machine the median tells more of the others.
    ms = {name: statistics.quantiles(some, n=4)[0] for name, some in times.items()}
    assert state.count == VECTORS
    report.note("recall@10", "HNSW : exact", recall, 1.0, "share")
    report.note("time", "exact : HNSW", ms["exact"], ms["HNSW"], "ms")
    report.note("time", "in memory : HNSW", ms["in memory"], ms["HNSW"], "ms")
    report.hold()


def build_vectors(engine: Engine) -> None:
    """The vectors of the index in a table of pgvector's own type, with its approximate index over them."""
    with write_transaction(engine) as connection:
        connection.execute(text("CREATE EXTENSION IF NOT EXISTS vector"))
        connection.execute(text("CREATE TABLE scratch_nearest (id bigint, user_id text, vector halfvec(384))"))
        rows = connection.execute(text("SELECT id, user_id, vector FROM memory_index")).all()
        insert = text("INSERT INTO scratch_nearest VALUES (:id, :user_id, CAST(:vector AS halfvec))")
        for start in range(0, len(rows), 5_000):
            some = [(row.id, row.user_id, np.frombuffer(row.vector, "<f2")) for row in rows[start : start + 5_000]]
            connection.execute(insert, [{"id": n, "user_id": u, "vector": as_text(v)} for n, u, v in some])
        connection.execute(text("SET LOCAL maintenance_work_mem = '512MB'"))
        method = "hnsw (vector halfvec_ip_ops) WITH (m = 24, ef_construction = 128)"
        connection.execute(text(f"CREATE INDEX ON scratch_nearest USING {method}"))
        connection.execute(text("ANALYZE scratch_nearest"))


def nearest(connection: Connection, user_id: str, question: np.ndarray, *, indexed: bool) -> list[int]:
    """The nearest by the approximate index, or by comparing the question with every vector, by one process each."""
    connection.execute(text(f"SET LOCAL enable_indexscan = {'on' if indexed else 'off'}"))
    connection.execute(text("SET LOCAL max_parallel_workers_per_gather = 0"))
    connection.execute(text("SET LOCAL hnsw.ef_search = 160"))
    query = text(
        "SELECT id FROM scratch_nearest WHERE user_id = :user_id "
        "ORDER BY vector <#> CAST(:question AS halfvec) LIMIT :count"
    )
    parameters = {"user_id": user_id, "question": as_text(question), "count": NEAREST}
    return list(connection.scalars(query, parameters))


def in_memory(
    engine: Engine, connection: Connection, user_id: str, model: str, question: np.ndarray, state: IndexState
) -> list[int]:
    return by_vector(engine, connection, user_id, model, question, state)[:NEAREST]


def table(rows: list[dict[str, Any]]) -> str:
    lines = [f"{'measure':<10} {'compared':<20} {'value':>8} {'other':>8} {'ratio':>7} {'at least':>8}  unit"]
    lines += [
        f"{row['measure']:<10} {row['compared']:<20} {row['value']:>8} {row['other']:>8} {row['ratio']:>7} "
        f"{row['bound']:>8}  {row['unit']}"
        for row in rows
    ]
    return "\n".join(lines)


def write(rows: list[dict[str, Any]]) -> None:
    """Into the CSV file, in place of earlier rows of the same measures; a run of one test keeps the others' rows."""

    def place(row: dict[str, Any]) -> tuple[str, str]:
        return row["measure"], row["compared"]

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
