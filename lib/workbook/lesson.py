"""What only the notebooks need: showing source, expecting an error, reading the data, timing."""

import inspect
import json
import statistics
import textwrap
import timeit
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from pprint import pformat
from threading import Barrier
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, delete, insert

from lib.database.engine import connect, create_tables
from lib.store.memory_store import MemoryStore

LIB = Path(__file__).resolve().parents[1]
DATA = LIB.parent / "data"
TODAY = datetime(2026, 9, 1, 9, tzinfo=UTC)  # the day that the lessons are set on; the data ends before it


class Clock:
    """A clock that a lesson sets by hand, so that its outputs are the same on every day.

    >>> clock = Clock(datetime(2026, 3, 3, tzinfo=UTC))
    >>> clock().month
    3
    """

    def __init__(self, now: datetime = TODAY):
        self.now = now

    def __call__(self) -> datetime:
        return self.now


class Source:
    """Source code; a notebook shows it as Markdown, highlighted in the colours of its own theme."""

    def __init__(self, thing: Any):
        file = Path(inspect.getsourcefile(inspect.unwrap(thing)) or "")
        self.code = textwrap.dedent(inspect.getsource(thing)).rstrip()
        self.path = f"lib/{file.relative_to(LIB).as_posix()}" if file.is_relative_to(LIB) else file.name

    def __repr__(self) -> str:
        return f"# {self.path}\n{self.code}"

    def _repr_markdown_(self) -> str:
        return f"*{self.path}*\n\n```python\n{self.code}\n```"


def show(thing: Any) -> Source:
    """The source of a function, method or class of lib, as it really is: nothing is copied into a notebook."""
    return Source(thing)


def answer(value: Any) -> None:
    """Show a value that the reader was asked to guess, in a cell tagged `predict`, whose output is folded away.

    JupyterLab shows the first line of a folded output that isn't empty, and would tell the answer; so nothing but a
    tag stands in it.
    """
    from IPython.display import display

    text = value if isinstance(value, str) else pformat(value)
    style = "margin:0;overflow-x:auto;white-space:pre-wrap;color:var(--jp-content-font-color1,inherit)"
    as_html = value._repr_html_() if hasattr(value, "_repr_html_") else f'<pre style="{style}">{escape(text)}</pre>'
    display({"text/html": f"<div>\n{as_html}</div>", "text/plain": f"\n{value!r}"}, raw=True)


@contextmanager
def expected(error: type[BaseException], *, message: bool = True, folded: bool = False) -> Iterator[None]:
    """Run a block that is meant to fail: print the error, or complain if it doesn't come.

    message: False prints the error's type only, for messages that each database words in its own way.
    folded: the output is folded away until the reader has guessed; see `answer`.

    >>> with expected(ZeroDivisionError):
    ...     1 / 0
    ZeroDivisionError: division by zero
    """
    try:
        yield
    except error as caught:
        lines = str(caught).strip().splitlines()
        print("\n" * folded, end="")
        print(f"{type(caught).__name__}: {lines[0]}" if message and lines else type(caught).__name__)
    else:
        raise AssertionError(f"this cell was meant to raise {error.__name__}, and didn't")


def load_memories(person: str | None = None) -> list[dict[str, Any]]:
    """Return the memories of data/memories.jsonl in the order of `valid_from`, of one person or of all."""
    return sorted(_records("memories", "person", person), key=lambda memory: memory["valid_from"])


def load_sessions(person: str | None = None) -> list[dict[str, Any]]:
    """Return the conversations of data/conversations.jsonl, of one person or of all."""
    return _records("conversations", "person", person)


def load_questions(split: str | None = None) -> list[dict[str, Any]]:
    """Return the questions of data/questions.jsonl; split: "dev", "test", or None for all.

    Choose weights and thresholds on dev only: whoever looks at test while choosing measures how well they guessed.
    """
    return _records("questions", "split", split)


def load_moments(split: str | None = None) -> list[dict[str, Any]]:
    """Return the labelled turns of data/moments.jsonl; split as for `load_questions`."""
    return _records("moments", "split", split)


def _records(name: str, field: str, wanted: str | None) -> list[dict[str, Any]]:
    lines = (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [record for record in map(json.loads, lines) if wanted in (None, record[field])]


def store_people(engine: Engine) -> MemoryStore:
    """A store with the memories of data/memories.jsonl, each stored when it was said; its clock stands at `TODAY`."""
    clock = Clock()
    store = MemoryStore(engine, now=clock)
    for memory in load_memories():
        clock.now = day(memory["valid_from"])
        value = {name: memory[name] for name in ("content", "type", "topics", "confidence")}
        store.put(memory["person"], memory["namespace"], memory["key"], value)
    clock.now = TODAY
    return store


def print_turns(session: dict[str, Any], first: int, last: int) -> None:
    """Print turns of a conversation, from the first to the last one given; the first of all is number 1."""
    indent = " " * 11
    for turn in session["turns"][first - 1 : last]:
        print(textwrap.fill(f"{turn['speaker']:>9}: {turn['text']}", 100, subsequent_indent=indent), end="\n\n")


def day(text: str) -> datetime:
    """A date, or a moment, of the data as an aware datetime.

    >>> day("2026-03-03") < day("2026-03-03T18:30:00Z")
    True
    """
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def median_ms(action: Callable[..., Any], *arguments: Any, repeat: int = 51) -> float:
    """Return the median duration of a call in ms, over `repeat` calls after one that doesn't count."""
    action(*arguments)
    seconds = timeit.repeat(lambda: action(*arguments), number=1, repeat=repeat)
    return 1000 * statistics.median(seconds)


def at_once(count: int, action: Callable[[], Any]) -> list[Any]:
    """Call it in so many threads at one moment; return what each returned, or the error that it raised."""
    start = Barrier(count)

    def run(_: int) -> Any:
        start.wait()
        try:
            return action()
        except Exception as error:
            return error

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(run, range(count)))


@contextmanager
def table_of_memories(size: int, *, indexed: bool) -> Iterator[Connection]:
    """A connection to a scratch SQLite table `memories` of `size` rows, of 20 users in turn."""
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE TABLE memories (user_id, namespace, key, value, updated_at)")
        rows = [(f"user_{n % 20}", "facts", f"fact_{n}", '{"content": "…"}', n) for n in range(size)]
        connection.exec_driver_sql("INSERT INTO memories VALUES (?, ?, ?, ?, ?)", rows)
        if indexed:
            connection.exec_driver_sql("CREATE INDEX ix ON memories (user_id, namespace, updated_at DESC)")
        yield connection
    engine.dispose()


def sqlite_plan(query: str) -> str:
    """SQLite's plan for a query on the workbook's tables."""
    engine = connect("sqlite://")
    create_tables(engine)
    with engine.connect() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}").all()
    engine.dispose()
    return "\n".join(row[3] for row in plan)


def replace_rows(engine: Engine, model: type[Any], rows: list[dict[str, Any]]) -> None:
    """Empty the model's table and fill it with the rows, in one transaction."""
    with engine.begin() as connection:
        connection.execute(delete(model.__table__))
        connection.execute(insert(model.__table__), rows)
