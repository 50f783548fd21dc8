"""The pre-flight check: does this computer have what the chapters need? One row for each thing, with a remedy."""

import sqlite3
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from lib.errors import ServerStartError, WorkbookError
from lib.records import RecordList

ROOT = Path(__file__).resolve().parents[2]
OK, LOOK, FAIL = "ok", "look", "FAIL"  # look: every chapter runs, but something is worth knowing

_INSTALL = "In the workbook's folder, run `uv sync`, or `python -m pip install -e .`."


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that was looked at."""

    what: str
    found: str
    status: str  # "ok", "look" (the chapters run all the same) or "FAIL" (a chapter can't run)
    remedy: str = ""  # what to do about it; empty when all is well


class Report(RecordList[Row]):
    """A list of rows. In a notebook it shows as a table, elsewhere as text."""

    columns = ("what", "found", "status", "remedy")
    nothing = "nothing was looked at"

    @staticmethod
    def row(record: Row) -> tuple[str, ...]:
        """Return the cells of one row of the table."""
        return record.what, record.found, record.status, record.remedy

    @classmethod
    def line(cls, record: Row) -> str:
        """Return one row as text; the remedy stands on a line of its own."""
        remedy = f"\n      Remedy: {record.remedy}" if record.remedy else ""
        return f"{record.status:<4}  {record.what:<15}  {record.found}{remedy}"

    @property
    def passed(self) -> bool:
        """Whether every chapter can run."""
        return all(row.status != FAIL for row in self)


def preflight() -> Report:
    """Look at everything the chapters need, in about two seconds; never raises, and shows no key or password.

    A PostgreSQL server is really connected to, or started and stopped.
    """
    checks: dict[str, Callable[[], Row]] = {
        "packages": check_packages,
        "notebook kernel": check_kernel,
        "SQLite": check_sqlite,
        "PostgreSQL": check_postgres,
        "chat model": check_chat_model,
        "embedder": check_embedder,
    }
    report = Report()
    for what, check in checks.items():
        try:
            report.append(check())
        except Exception as error:  # one check that breaks must not hide the others; its text may hold a secret
            report.append(Row(what, f"could not be checked ({type(error).__name__})", FAIL, _INSTALL))
    return report


def check_packages(requirements: Path = ROOT / "requirements.txt") -> Row:
    """Is every package of requirements.txt that is meant for this computer installed, and in that version?"""
    from packaging.requirements import Requirement

    lines = (line.split("#")[0].strip() for line in requirements.read_text(encoding="utf-8").splitlines())
    pins = [Requirement(line) for line in lines if line and not line.startswith("-")]
    pins = [pin for pin in pins if pin.marker is None or pin.marker.evaluate()]
    missing, different = [], []
    for pin in pins:
        try:
            version = metadata.version(pin.name)
        except metadata.PackageNotFoundError:
            missing.append(pin.name)
        else:
            if not pin.specifier.contains(version, prereleases=True):
                different.append(f"{pin.name} is {version} and not {str(pin.specifier).lstrip('=')}")
    if missing:
        return Row("packages", f"{len(missing)} of {len(pins)} missing: {', '.join(missing[:5])}", FAIL, _INSTALL)
    if different:
        return Row("packages", f"{len(different)} of {len(pins)} differ: {', '.join(different[:5])}", LOOK, _INSTALL)
    python = sys.version.split()[0]
    return Row("packages", f"all {len(pins)} in the versions of {requirements.name}, on Python {python}", OK)


def check_kernel() -> Row:
    """Does the notebooks' kernel, python3, run this very Python? Another one would not find lib."""
    from jupyter_client.kernelspec import KernelSpecManager

    program = Path(KernelSpecManager().get_kernel_spec("python3").argv[0])
    # Where a kernel asks for plain "python", jupyter_client itself puts its own.
    if program.name == str(program) or program.parent.resolve() == Path(sys.executable).parent.resolve():
        return Row("notebook kernel", "python3, by this Python", OK)
    remedy = "Run `python -m ipykernel install --sys-prefix` in the workbook's environment."
    return Row("notebook kernel", f"python3 is run by another Python: {program}", FAIL, remedy)


def check_sqlite() -> Row:
    """Does this Python's SQLite do what the store asks of it? It is tried, because builds leave parts out."""
    from lib.database.engine import connect, create_tables
    from lib.store.memory_store import MemoryStore

    version = sqlite3.sqlite_version
    try:
        engine = connect("sqlite://")
        create_tables(engine)
        store = MemoryStore(engine)
        store.put("zoe", "facts", "exam", {"content": "The exam is in May."})
        store.search("zoe", filter={"content": "The exam is in May."})
        engine.dispose()
    except Exception as error:
        remedy = "It needs SQLite 3.36 or newer with JSON and FTS5; `uv run workbook` brings one."
        return Row("SQLite", f"{version} can't hold memories: {str(error).splitlines()[0]}", FAIL, remedy)
    return Row("SQLite", f"{version}, stored and found a memory", OK)


def check_postgres() -> Row:
    """Which PostgreSQL would be used, and does it work?"""
    from sqlalchemy import text
    from sqlalchemy.exc import SQLAlchemyError

    from lib.database import configured_url, parse_url, safe
    from lib.workbook.practice_database import practice_engine

    url = configured_url()
    if url is None:
        return _local_postgres()
    try:
        address = safe(parse_url(url))
        engine = practice_engine(tables=False)  # as the chapters do it: in a schema of its own
        with engine.connect() as connection:
            version = connection.scalar(text("SHOW server_version"))
    except (WorkbookError, SQLAlchemyError) as error:
        remedy = "Correct POSTGRES_URL (in the environment or in .env), or unset it to use the server that came along."
        return Row("PostgreSQL", f"POSTGRES_URL: {str(error).splitlines()[0]}", FAIL, remedy)
    return Row("PostgreSQL", f"{version} at POSTGRES_URL, {address}", OK)


def _local_postgres() -> Row:
    from lib.practice.local_postgres import start_postgres

    started = time.perf_counter()
    try:
        with start_postgres() as server:
            found = f"{server.version}, started in {time.perf_counter() - started:.1f} s"
    except (ServerStartError, OSError) as error:
        remedy = "Only chapter 07 needs it. Set POSTGRES_URL to a server that runs, or mend the cause."
        return Row("PostgreSQL", str(error), FAIL, remedy)
    return Row("PostgreSQL", f"{found}; used only for chapter 07 and the PostgreSQL pass", OK)


def check_chat_model() -> Row:
    """Which chat model would be used, and does it answer? A paid one isn't asked; the key is never shown."""
    from lib.llm.chat import chat_model, model_choice

    choice = model_choice()
    if choice.kind == "openai":
        return Row("chat model", f"{choice.model} on the OpenAI API; OPENAI_API_KEY is set (not tried: it costs)", OK)
    if choice.kind == "endpoint":
        try:
            return Row("chat model", f"{chat_model().model_name}, at OPENAI_BASE_URL", OK)
        except WorkbookError:
            remedy = "Start that server, or unset OPENAI_BASE_URL to use the practice model."
            return Row("chat model", "OPENAI_BASE_URL is set, and doesn't list its models", FAIL, remedy)
    began = time.perf_counter()
    chat_model(max_retries=0, timeout=20).invoke("Hello")
    took = time.perf_counter() - began
    return Row("chat model", f"the practice model on this computer, answered in {took:.1f} s; no OPENAI_API_KEY", OK)


def check_embedder() -> Row:
    """Which model turns texts into vectors, and does the local one work?"""
    from lib.llm.embeddings import LocalEmbedder, default_embedder

    chosen, began = default_embedder(), time.perf_counter()
    found = f"{chosen.name}; not tried here, because it costs money"
    if isinstance(chosen, LocalEmbedder):
        chosen.embed(["Hello"])
        found = f"{chosen.name} on this computer, in {time.perf_counter() - began:.1f} s"
    return Row("embedder", found, OK)
