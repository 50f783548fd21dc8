"""The shape of lib: who may import whom, how long a file may be, and what `import lib` costs."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LIB = ROOT / "lib"
LONGEST_FILE = 300  # lines
HEAVY = {
    "procrastinate",
    "langchain",
    "langchain_core",
    "langchain_openai",
    "onnxruntime",
    "pandas",
    "matplotlib",
    "openai",
    "numpy",
}

# A module imports only from floors below its own. A new module needs a place here: as low as it can be.
FLOORS = {
    "errors": 0, "items": 0, "postgres_watcher": 0, "settings": 0, "namespaces": 0, "triggers": 0,
    "poolers": 0,
    "urls": 1, "binding": 1, "models": 1, "values": 1, "postgres_programs": 1, "postgres_settings": 1, "outages": 2,
    "local_postgres": 3, "embeddings": 1, "reset": 1, "quoting": 1,
    "terms": 3, "scored": 1, "report": 1, "conditions": 3, "database": 3, "structured": 3,
    "practice_model": 3,  # a package: its own modules may import one another
    "ranking": 4, "ann": 4, "indexing": 4, "archive": 4, "direct": 4, "history": 4, "practice": 4, "chat_model": 4,
    "sessions": 4, "isolation": 4, "job_tables": 4,
    "matrices": 5, "forgetting": 5, "upserts": 5, "preflight": 5,
    "store": 6, "candidates": 6,
    "versions": 7, "cache": 7, "learning": 7,
    "content_hash": 1, "scopes": 4, "cache_rows": 5, "hit_counts": 6, "eviction": 6, "cache_metrics": 5,
    "langchain_cache": 8, "langchain_answers": 3, "generated": 2, "single_flight": 6,
    "remembering": 8, "retrieval": 8,
    "tools": 9, "context": 9, "consolidation": 9, "evaluation": 9,
    "formation": 10,
    "job_queue": 11, "answering": 11,
    "plots": 12, "lesson": 12, "chat_widget": 12, "job_worker": 12,
    "plans": 13, "cache_trial": 13, "schema_picture": 13, "vector_trial": 13,
    "jobs": 13, "formation_trial": 13, "retrieval_trial": 13, "evaluation_moments": 13,
    "context_trial": 14, "job_trial": 14, "postgres_trial": 14,
    "copied": 1, "bulk": 3, "comparing": 4, "copying": 5,
    "practice_watcher": 5,
    "partitions": 4,
    "helpers": 0, "forked": 0, "load_trial": 7,
    "exercises": 15,  # a package, too
    "__init__": 16, "__main__": 16,
}  # fmt: skip

files = sorted(LIB.rglob("*.py"))


def module_of(file: Path) -> str:
    """`lib/store.py` is store, and everything in `lib/exercises/` is exercises."""
    inside = file.relative_to(LIB)
    return inside.parts[0] if len(inside.parts) > 1 else inside.stem


def imported_modules(file: Path) -> set[str]:
    """The modules of lib that a file imports, also those that it imports inside a function."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file.name} has a relative import; write `from lib…`"
            # `from lib import store` imports a module too, `from lib.store import MemoryStore` names one already.
            found |= {f"{node.module}.{alias.name}" if node.module == "lib" else node.module for alias in node.names}
    return {name.split(".")[1] for name in found if name.startswith("lib.")} | {"__init__" for n in found if n == "lib"}


@pytest.mark.parametrize("file", files, ids=lambda file: str(file.relative_to(LIB)))
def test_a_module_imports_only_from_floors_below(file: Path) -> None:
    module = module_of(file)
    assert module in FLOORS, f"{file.name} has no floor yet: give it one in {Path(__file__).name}"

    wrong = {name for name in imported_modules(file) - {module} if FLOORS.get(name, 99) >= FLOORS[module]}

    assert not wrong, f"{module} (floor {FLOORS[module]}) imports {', '.join(sorted(wrong))}, which isn't below it"


@pytest.mark.parametrize("file", files, ids=lambda file: str(file.relative_to(LIB)))
def test_no_file_is_longer_than_the_limit(file: Path) -> None:
    lines = len(file.read_text(encoding="utf-8").splitlines())

    assert lines <= LONGEST_FILE, f"{file.name} has {lines} lines: it does two things; part them"


def test_the_check_sees_every_way_to_import(tmp_path: Path) -> None:
    file = tmp_path / "sample.py"
    file.write_text("import os, lib.cache\nfrom lib.store import X\ndef f():\n    from lib import jobs\n    import lib")

    assert imported_modules(file) == {"cache", "store", "jobs", "__init__"}


def test_import_lib_loads_nothing_heavy() -> None:
    code = "import lib, sys; print(*{name.partition('.')[0] for name in sys.modules})"

    loaded = set(subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True).split())

    assert "lib" in loaded and "sqlalchemy" in loaded
    assert not loaded & HEAVY


def test_all_that_lib_exports_is_there() -> None:
    import lib

    assert sorted(lib.__all__, key=lambda name: (not name.isupper(), name)) == lib.__all__  # constants first, as ruff
    assert all(hasattr(lib, name) for name in lib.__all__)


def test_without_a_package_lib_says_so_and_its_check_still_runs(tmp_path: Path) -> None:
    (tmp_path / "sqlalchemy.py").write_text("raise ModuleNotFoundError('gone', name='sqlalchemy')", encoding="utf-8")
    without = {**os.environ, "PYTHONPATH": str(tmp_path)}

    used = subprocess.run(
        [sys.executable, "-c", "from lib import MemoryStore"], cwd=ROOT, env=without, capture_output=True, text=True
    )
    checked = subprocess.run([sys.executable, "-m", "lib", "check"], cwd=ROOT, env=without, capture_output=True)

    assert "lib.MemoryStore needs the package 'sqlalchemy'" in used.stderr
    assert "`uv sync`" in used.stderr
    assert checked.returncode == 1
    assert b"Remedy" in checked.stdout
