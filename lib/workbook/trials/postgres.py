"""What chapter 07 tries on a server: scripts and chapters on another database, connections, sizes, statements."""

import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import nbformat
from sqlalchemy import Engine, text

from lib.database.engine import connect
from lib.errors import InvalidInput
from lib.store.memory_store import MemoryStore
from lib.workbook.lesson import TODAY, Clock
from lib.workbook.plots import COLORS, new_axes, show_figure
from lib.workbook.refresh import execute

if TYPE_CHECKING:
    import pandas

NOTEBOOKS = Path(__file__).resolve().parents[3] / "notebooks"


def run_script(code: str, *arguments: str) -> str:
    """Run code in a new Python process, which ends with it; returns what it printed, or the last line of its error.

    arguments: are `sys.argv[1:]` there.
    """
    command = [sys.executable, "-X", "utf8", "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    return (done.stdout if done.returncode == 0 else done.stderr.splitlines()[-1]).strip()


def on_both(engines: Mapping[str, Engine], sql: str) -> dict[str, Any]:
    """The first column of a query's rows, by database; where a database refuses it, the name of its error."""
    answers: dict[str, Any] = {}
    for name, engine in engines.items():
        with engine.connect() as connection:
            try:
                answers[name] = connection.scalars(text(sql)).all()
            except Exception as error:
                answers[name] = type(getattr(error, "orig", error)).__name__
    return answers


def states_of_connections(engine: Engine) -> dict[str, int]:
    """How many connections of other clients to this database are in each state but idle, as PostgreSQL sees it."""
    sql = (
        "SELECT state FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'"
    )
    with engine.connect() as connection:
        return dict(Counter(connection.scalars(text(sql))))


def run_chapter(name: str, url: str) -> dict[str, int]:
    """Run a chapter's cells anew with POSTGRES_URL set, and compare what they show with what is stored in its file.

    name: the file's beginning, such as "02". Cells that show times or pictures are run, but not compared.
    Returns how many cells ran, were compared, and differ.
    """
    files = sorted(NOTEBOOKS.glob(f"{name}*.ipynb"))
    if len(files) != 1:
        raise InvalidInput(f"no single chapter begins with {name!r}; there are {[f.stem for f in files]}.")
    before, after = (nbformat.read(files[0], as_version=4) for _ in range(2))
    execute(after, NOTEBOOKS, POSTGRES_URL=url)
    pairs = [pair for pair in zip(before.cells, after.cells, strict=True) if pair[0].cell_type == "code"]
    compared = [pair for pair in pairs if "nbval-ignore-output" not in pair[0].metadata.get("tags", ())]
    different = sum(_texts(old) != _texts(new) for old, new in compared)
    return {"cells": len(pairs), "compared": len(compared), "different": different}


def _texts(cell: Any) -> list[Any]:
    """What a cell shows, but for how far a progress bar came."""
    return [output.get("text") or output.get("data") for output in cell.outputs if output.get("name") != "stderr"]


def new_database(engine: Engine, name: str) -> Engine:
    """An engine on a new, empty database of the same server."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f'CREATE DATABASE "{name}"'))
    return connect(engine.url.set(database=name).render_as_string(hide_password=False))


def fill(engine: Engine, *, users: int, memories: int) -> MemoryStore:
    """A store with so many users, and memories of each, half of them facts and half preferences; stored a month ago."""
    clock = Clock(TODAY - timedelta(days=30))
    store = MemoryStore(engine, now=clock)
    for user in range(users):
        rows = []
        for number in range(memories):
            topics = ["lighthouses"] if (user, number) in ((3, 0), (11, 0)) else [f"topic {number % 40}"]
            value = {"content": f"Memory {number} of user {user}, long enough to look like one.", "topics": topics}
            rows.append((("facts", "preferences")[number % 2], f"memory_{number}", value))
        store.put_many(f"user_{user}", rows)
        clock.now += timedelta(minutes=1)
    clock.now = TODAY
    return store


def index_sizes(engine: Engine, table: str) -> dict[str, float]:
    """Size of a table on PostgreSQL, and of each of its indexes, in MB; the largest first."""
    sql = text(
        "SELECT relname, pg_relation_size(oid) / 1e6 FROM pg_class WHERE oid = CAST(:table AS regclass) "
        "OR oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = CAST(:table AS regclass)) ORDER BY 2 DESC"
    )
    with engine.connect() as connection:
        return {name: round(float(size), 1) for name, size in connection.execute(sql, {"table": table})}


def recall_against_time(curve: Mapping[int, Mapping[str, float]], exact: Mapping[str, float]) -> None:
    """Draw what an approximate index finds against what it takes, a point for each `ef`, beside the exact search."""
    axes = new_axes(
        "More in view finds more, and takes longer", "time of a question, ms", "share of the true ten found"
    )
    points = [(answers["ms"], answers["recall"]) for answers in curve.values()]
    axes.plot(*zip(*points, strict=True), color=COLORS[0], marker="o", linewidth=2)
    for ef, point in zip(curve, points, strict=True):
        axes.annotate(f"ef={ef}", point, xytext=(7, -11), textcoords="offset points", fontsize=9, color=COLORS[0])
    axes.plot([exact["ms"]], [exact["recall"]], color=COLORS[1], marker="s", markersize=8)
    at = (exact["ms"], exact["recall"])
    axes.annotate("exact", at, xytext=(0, 8), textcoords="offset points", color=COLORS[1], ha="center")
    axes.set_xlim(0, None)
    axes.set_ylim(0, 1.12)
    show_figure(
        axes,
        "A rising curve, from a third of the true ten at ef=10 to nearly all at ef=320. The exact search is a single "
        "point at the top, about as far to the right as the last points of the curve.",
    )


def some_traffic(store: MemoryStore) -> None:
    """An hour of an app's life in a second: reads, writes, and a dashboard that counts what came since yesterday.

    What pg_stat_statements has counted before is forgotten; the extension is created if it isn't there.
    """
    count = text("SELECT count(*) FROM memories WHERE created_at > :since")
    with cast(Engine, store.engine).begin() as connection:
        connection.execute(text("CREATE EXTENSION IF NOT EXISTS pg_stat_statements"))
        connection.execute(text("SELECT pg_stat_statements_reset()"))
    for number in range(300):
        store.get(f"user_{number % 20}", "facts", f"memory_{number}")
        if number % 3 == 0:
            store.search(f"user_{number % 20}", "facts")
            store.put(f"user_{number % 20}", "facts", "latest", {"content": f"Note {number}."})
        if number % 10 == 0:
            with cast(Engine, store.engine).connect() as connection:
                connection.execute(count, {"since": store.now() - timedelta(days=1)})


def statements(engine: Engine, holding: str = "") -> "pandas.DataFrame":
    """The five statements that took longest in all, of those that hold a text; times in ms."""
    import pandas

    sql = text(
        'SELECT calls, round(total_exec_time::numeric, 1)::float AS "total ms", '
        'round(mean_exec_time::numeric, 3)::float AS "mean ms", '
        "left(regexp_replace(query, '\\s+', ' ', 'g'), 70) AS statement FROM pg_stat_statements "
        "WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND strpos(query, :holding) > 0 "
        "AND query !~ 'pg_stat_statements' ORDER BY total_exec_time DESC LIMIT 5"
    )
    with engine.connect() as connection:
        return pandas.read_sql(sql, connection, params={"holding": holding})
