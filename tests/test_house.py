"""The shape of lib: who may import whom, how much there is to read, and what `import lib` costs."""

import ast
import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parent.parent
LIB = ROOT / "lib"
# From the ground up. A wing, or a file of lib's own folder, imports only from floors below its own.
FLOORS: list[set[str]] = [
    {"errors"},
    {"config", "checks", "records", "text_terms"},
    {"database", "practice"},
    {"store", "llm"},
    {"formation", "retrieval", "cache", "postgres"},
    {"agent", "jobs"},
    {"workbook"},
    {"__init__", "__main__"},
]
FLOOR_OF = {place: number for number, floor in enumerate(FLOORS) for place in floor}
CORE = ("database", "store", "llm", "agent", "formation", "retrieval", "cache")
# Lines. They only ever come down; on the way to 3,500 for the core, 5,500 for workbook and practice, 13,000 in all.
MAX_CORE_LINES, MAX_COMPANY_LINES, MAX_LINES = 3_880, 5_380, 13_720
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

files = sorted(LIB.rglob("*.py"))


def place_of(file: Path) -> str:
    """`lib/store/items.py` is in the wing store; `lib/errors.py` stands by itself."""
    return file.relative_to(LIB).parts[0].removesuffix(".py")


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports_of(file: Path) -> Iterator[tuple[str, ...]]:
    """What a file imports of lib, also inside a function, as the parts of a path: ("lib", "store", "items", …)."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file.name} has a relative import; write `from lib…`"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (tuple(name.split(".")) for name in names if name.split(".")[0] == "lib")


def lines_of(*places: str, core: bool = False) -> int:
    """Lines of these wings and files of lib; core: without the depth, whose names begin with an underscore."""
    chosen = [file for file in files if place_of(file) in places and not (core and is_depth(file.stem))]
    return sum(len(file.read_text(encoding="utf-8").splitlines()) for file in chosen)


def is_depth(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def test_a_wing_imports_only_from_floors_below() -> None:
    wrong = []
    for file in files:
        here = place_of(file)
        others = {parts[1] if len(parts) > 1 else "__init__" for parts in imports_of(file)} - {here}
        wrong += [
            f"{module_of(file)} -> {there}" for there in others if FLOOR_OF.get(there, len(FLOORS)) >= FLOOR_OF[here]
        ]

    assert not wrong, f"imports of what isn't on a floor below: {', '.join(sorted(wrong))}"


def test_no_wing_imports_the_depth_of_another() -> None:
    deep = [
        f"{module_of(file)} -> {'.'.join(parts)}"
        for file in files
        for parts in imports_of(file)
        if parts[1:] and parts[1] != place_of(file) and any(map(is_depth, parts[2:]))
    ]

    assert not deep, f"take it from the wing, whose __init__ exports what others need: {', '.join(deep)}"


def test_inside_a_wing_no_modules_import_each_other_in_a_circle() -> None:
    modules = {module_of(file) for file in files}
    arrows = {
        module_of(file): {
            module
            for parts in imports_of(file)
            for module in (".".join(parts), ".".join(parts[:-1]))
            if module in modules and module != module_of(file) and place_of(file) == parts[1]
        }
        for file in files
        if file.stem != "__init__"
    }
    while leaves := [module for module, others in arrows.items() if not others & arrows.keys()]:
        for module in leaves:
            del arrows[module]

    assert not arrows, f"these import each other: {', '.join(sorted(arrows))}"


def test_what_is_read_is_small() -> None:
    assert lines_of(*CORE, "text_terms", core=True) <= MAX_CORE_LINES
    assert lines_of("workbook", "practice") <= MAX_COMPANY_LINES
    assert lines_of(*FLOOR_OF) <= MAX_LINES


def test_the_readme_says_how_much_there_is_to_read() -> None:
    assert f"at most {MAX_CORE_LINES:,} lines" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_no_file_is_longer_than_300_lines() -> None:
    lengths = {module_of(file): len(file.read_text(encoding="utf-8").splitlines()) for file in files}

    too_long = {module: lines for module, lines in lengths.items() if lines > 300}

    assert not too_long, f"these do two things; part them: {too_long}"


def test_a_module_can_be_imported_by_its_name() -> None:
    """`import lib.x.y as m` gives a function of that name instead, if the wing's `__init__` exports one."""
    hidden = []
    for file in files:
        wing, _, name = module_of(file).rpartition(".")
        if wing and not is_depth(name) and name != "__main__":
            importlib.import_module(module_of(file))
            if not isinstance(getattr(sys.modules[wing], name), ModuleType):
                hidden.append(module_of(file))

    assert not hidden


def test_the_checks_see_every_way_to_import(tmp_path: Path) -> None:
    file = tmp_path / "sample.py"
    lines = [
        "import os, lib.cache",
        "from lib.store.items import X",
        "def f():",
        " from lib import jobs",
        " import lib",
    ]
    file.write_text("\n".join(lines))

    assert {parts[1:] for parts in imports_of(file)} == {("cache",), ("store", "items", "X"), ("jobs",), ()}


def test_the_core_can_be_copied_into_a_product_without_the_other_wings(tmp_path: Path) -> None:
    for wing in CORE:
        shutil.copytree(LIB / wing, tmp_path / "lib" / wing)
    for file in LIB.glob("*.py"):
        shutil.copy(file, tmp_path / "lib")
    modules = [module_of(file) for file in files if place_of(file) in CORE]
    code = f"import {', '.join(modules)}\nfrom lib import MemoryStore, retrieve\nprint(lib.__file__)"

    told = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)

    assert told.returncode == 0, told.stderr
    assert told.stdout.strip() == str(tmp_path / "lib" / "__init__.py"), "it is the copy that was imported"


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
