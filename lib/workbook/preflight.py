"""The pre-flight check: does this computer have what the chapters need? One row for each thing, with a remedy."""

import contextlib
import shutil
import sqlite3
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from lib.errors import ServerStartError, WorkbookError
from lib.workbook._report import FAIL, LOOK, OK, Report, Row

ROOT = Path(__file__).resolve().parents[2]
NEEDED_DISK_BYTES = 1_000_000_000

_INSTALL = "In the workbook's folder, run `uv sync`, or `python -m pip install -e .`."
_SQLITE_FEATURES = {
    "UPSERT and RETURNING": "INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET a = 2 RETURNING a",
    "JSON": "SELECT value FROM json_each('[1]') WHERE json_extract('{\"a\": 1}', '$.a') = 1",
    "FTS5": "CREATE VIRTUAL TABLE words USING fts5(word)",
}


def preflight() -> Report:
    """Look at everything the chapters need, in about two seconds; never raises, and shows no key or password.

    A PostgreSQL server is really connected to, or started and stopped.
    """
    checks: list[tuple[str, Callable[[], Row]]] = [
        ("Python", check_python),
        ("packages", check_packages),
        ("notebook kernel", check_kernel),
        ("SQLite", check_sqlite),
        ("PostgreSQL", check_postgres),
        ("chat model", check_chat_model),
        ("embedder", check_embedder),
        ("workbook folder", check_root_folder),
        ("free disk", check_disk),
    ]
    report = Report()
    for what, check in checks:
        try:
            report.append(check())
        except Exception as error:  # one check that breaks must not hide the others; its text may hold a secret
            found = f"could not be checked ({type(error).__name__})"
            report.append(Row(what, found, FAIL, _INSTALL))
    return report


def check_python(version: str = sys.version.split()[0], project: Path = ROOT / "pyproject.toml") -> Row:
    """Is the version of Python within the range of pyproject.toml?"""
    from packaging.specifiers import SpecifierSet

    with project.open("rb") as file:
        wanted = tomllib.load(file)["project"]["requires-python"]
    found = f"{version}; the workbook needs {wanted}"
    if SpecifierSet(wanted).contains(version.rstrip("+"), prereleases=True):
        return Row("Python", found, OK)
    return Row("Python", found, FAIL, "`uv run workbook` fetches a Python that fits; or make a new environment.")


def check_packages(requirements: Path = ROOT / "requirements.txt") -> Row:
    """Is every package of requirements.txt that is meant for this computer installed, and in that version?"""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    installed = {canonicalize_name(each.name): each.version for each in metadata.distributions()}
    lines = (line.split("#")[0].strip() for line in requirements.read_text(encoding="utf-8").splitlines())
    pins = [Requirement(line) for line in lines if line and not line.startswith("-")]
    pins = [pin for pin in pins if pin.marker is None or pin.marker.evaluate()]
    missing = [pin.name for pin in pins if canonicalize_name(pin.name) not in installed]
    different = [
        f"{pin.name} is {version} and not {str(pin.specifier).lstrip('=')}"
        for pin in pins
        if (version := installed.get(canonicalize_name(pin.name))) and not pin.specifier.contains(version, True)
    ]
    if missing:
        return Row("packages", f"{len(missing)} of {len(pins)} missing: {_some(missing)}", FAIL, _INSTALL)
    if different:
        return Row("packages", f"{len(different)} of {len(pins)} differ: {_some(different)}", LOOK, _INSTALL)
    return Row("packages", f"all {len(pins)} in the versions of {requirements.name}", OK)


def check_kernel() -> Row:
    """Does the notebooks' kernel, python3, run this very Python? Another one would not find lib."""
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    try:
        program = Path(KernelSpecManager().get_kernel_spec("python3").argv[0])
    except NoSuchKernel:
        return Row("notebook kernel", "there is none named python3", FAIL, _INSTALL)
    # Where a kernel asks for plain "python", jupyter_client itself puts its own.
    if program.name == str(program) or program.parent.resolve() == Path(sys.executable).parent.resolve():
        return Row("notebook kernel", "python3, by this Python", OK)
    remedy = "Run `python -m ipykernel install --sys-prefix` in the workbook's environment."
    return Row("notebook kernel", f"python3 is run by another Python: {program}", FAIL, remedy)


def check_sqlite() -> Row:
    """Is this Python's SQLite new enough? Each feature is tried, because builds leave some out."""
    lacking = []
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE t (a INTEGER PRIMARY KEY)")
        for feature, statement in _SQLITE_FEATURES.items():
            try:
                connection.execute(statement).fetchall()
            except sqlite3.Error:
                lacking.append(feature)
    try:
        sqlite3.connect("file:/workbook-preflight?vfs=memdb", uri=True).close()
    except sqlite3.Error:
        lacking.append("memdb")
    if lacking:
        remedy = "It needs SQLite 3.36 or newer with JSON and FTS5; `uv run workbook` brings one."
        return Row("SQLite", f"{sqlite3.sqlite_version} without {', '.join(lacking)}", FAIL, remedy)
    return Row("SQLite", f"{sqlite3.sqlite_version} with {', '.join(_SQLITE_FEATURES)}, memdb", OK)


def check_postgres() -> Row:
    """Which PostgreSQL would be used, and does it work?"""
    from lib.database import configured_url

    url = configured_url()
    return _local_postgres() if url is None else _configured_postgres(url)


def _configured_postgres(url: str) -> Row:
    from sqlalchemy import text

    from lib.database import parse_url, safe
    from lib.database.engine import connect

    what = "PostgreSQL"
    started = time.perf_counter()
    try:
        address = safe(parse_url(url))
        engine = connect(url)
    except WorkbookError as error:
        remedy = "Correct POSTGRES_URL (in the environment or in .env), or unset it to use the server that came along."
        return Row(what, f"POSTGRES_URL: {error}", FAIL, remedy)
    try:
        if engine.dialect.name != "postgresql":
            remedy = "Unset it: the chapters on SQLite need no setting."
            return Row(what, f"POSTGRES_URL names an {engine.dialect.name} database: {address}", LOOK, remedy)
        with engine.connect() as connection:
            version = connection.scalar(text("SHOW server_version")).split()[0]
            may_create = connection.scalar(text("SELECT has_database_privilege(current_database(), 'CREATE')"))
    finally:
        engine.dispose()
    found = f"{version} at POSTGRES_URL, {address}, answered in {time.perf_counter() - started:.1f} s"
    if not may_create:
        remedy = "The workbook makes a schema of its own: let an administrator GRANT CREATE ON DATABASE to this user."
        return Row(what, f"{found}, but this user may not create a schema", FAIL, remedy)
    return Row(what, found, OK)


def _local_postgres() -> Row:
    from lib.practice import find_binaries
    from lib.practice.local_postgres import start_postgres

    what = "PostgreSQL"
    try:
        binaries = find_binaries()
        started = time.perf_counter()
        with start_postgres(binaries=binaries) as server:
            ready = time.perf_counter()
        stopped = time.perf_counter()
    except (ServerStartError, OSError) as error:
        remedy = "Only chapter 07 needs it. Set POSTGRES_URL to a server that runs, or mend the cause."
        return Row(what, str(error), FAIL, remedy)
    seconds = f"started in {ready - started:.1f} s, stopped in {stopped - ready:.1f} s"
    return Row(what, f"{server.version}, {seconds}; used only for chapter 07 and the PostgreSQL pass", OK)


def check_chat_model() -> Row:
    """Which chat model would be used, and does it answer? A paid one isn't asked; the key is never shown."""
    from lib.llm.chat_model import chat_model, model_choice

    choice = model_choice()
    if choice.kind == "openai":
        return Row("chat model", f"{choice.model} on the OpenAI API; OPENAI_API_KEY is set (not tried: it costs)", OK)
    if choice.kind == "endpoint":
        address = _without_credentials(choice.base_url or "")
        remedy = "Start that server, or unset OPENAI_BASE_URL to use the practice model."
        try:
            name = chat_model().model_name
        except WorkbookError:
            return Row("chat model", f"OPENAI_BASE_URL is set ({address}), and doesn't list its models", FAIL, remedy)
        return Row("chat model", f"{name} on {address}; OPENAI_BASE_URL is set", OK)
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


def check_root_folder(root: Path = ROOT) -> Row:
    """Can the learner save the notebooks where they are?"""
    if _writable(root / "notebooks" if (root / "notebooks").is_dir() else root):
        return Row("workbook folder", "you may write to it", OK)
    remedy = "The chapters run; to keep your work, copy the workbook to a folder of yours, or use File > Save As."
    return Row("workbook folder", f"{root} is read-only for you", LOOK, remedy)


def check_disk(folders: tuple[Path, ...] = (ROOT, Path(tempfile.gettempdir()))) -> Row:
    """Is there room for the databases and the learner's copies?"""
    free = min(shutil.disk_usage(folder).free for folder in folders)
    found = f"{free / 1e9:.1f} GB"
    if free >= NEEDED_DISK_BYTES:
        return Row("free disk", found, OK)
    return Row("free disk", found, LOOK, "Make room for 1 GB: a database that finds the disk full stops.")


def _writable(folder: Path) -> bool:
    try:  # os.access doesn't know read-only mounts on every system, nor Windows' access lists
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _without_credentials(url: str) -> str:
    """Scheme, host and path of a URL: a user, a password or a token in the query are left out."""
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _some(names: list[str], limit: int = 5) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
