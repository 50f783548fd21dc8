"""Habits of the notebooks, held by tests. That they run, and give their outputs again, is nbval's part."""

import ast
import json
import re
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from nbconvert import HTMLExporter

import lib

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted(path for path in (ROOT / "notebooks").rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)
EXPORTER = HTMLExporter()
CHAPTERS = [path for path in NOTEBOOKS if path.parent.name == "notebooks"]


def cells(path: Path, kind: str) -> list[dict]:
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == kind]


def source(cell: dict) -> str:
    return "".join(cell["source"])


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: str(path.relative_to(ROOT)))
def notebook(request) -> Path:
    return request.param


@pytest.fixture(params=CHAPTERS, ids=lambda path: path.stem)
def chapter(request) -> Path:
    return request.param


def test_every_code_cell_was_run_in_order(notebook):
    counts = [cell["execution_count"] for cell in cells(notebook, "code")]

    assert counts == list(range(1, len(counts) + 1))


def test_no_output_is_an_error_or_a_warning(notebook):
    for cell in cells(notebook, "code"):
        for output in cell["outputs"]:
            assert output["output_type"] != "error", source(cell)
            assert output.get("name") != "stderr", source(cell)


def test_every_picture_on_the_rendered_page_has_alternative_text(notebook):
    page, _ = EXPORTER.from_filename(str(notebook))

    for image in BeautifulSoup(page, "html.parser").find_all("img"):
        text = image.get("alt", "")
        assert text.strip() and not text.startswith("No description has been provided"), str(image)[:200]


def test_no_output_shows_a_path_of_a_machine(notebook):
    for cell in cells(notebook, "code"):
        assert not re.search(r"/(tmp|root|work|home|Users)/|[A-Z]:\\\\", json.dumps(cell["outputs"])), source(cell)


def test_no_cell_is_longer_than_25_lines(notebook):
    assert max(len(source(cell).splitlines()) for cell in cells(notebook, "code")) <= 25


def test_no_cell_installs_shells_out_or_changes_the_path(notebook):
    for cell in cells(notebook, "code"):
        assert not re.search(r"^\s*[!%]|sys\.path", source(cell), re.MULTILINE), source(cell)


def test_no_notebook_defines_what_lib_exports(notebook):
    for cell in cells(notebook, "code"):
        for node in ast.walk(ast.parse(source(cell))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                assert node.name not in lib.__all__, f"{node.name} is defined in lib"


def test_prose_leads_with_eight_words_to_a_line_of_code(chapter):
    words = sum(len(source(cell).split()) for cell in cells(chapter, "markdown"))
    lines = sum(
        1
        for cell in cells(chapter, "code")
        for line in source(cell).splitlines()
        if line.strip() and not line.strip().startswith("#")
    )

    assert words >= 8 * lines


def test_what_a_reader_is_asked_to_predict_is_folded_away(chapter):
    folded = [cell for cell in cells(chapter, "code") if cell["metadata"].get("jupyter", {}).get("outputs_hidden")]
    asked = [cell for cell in cells(chapter, "code") if "predict" in cell["metadata"].get("tags", [])]

    assert folded == asked
    assert len(asked) >= (1 if chapter.stem.startswith("00") else 3)
    assert all(cell["outputs"] for cell in asked)


def test_the_first_line_of_a_folded_output_tells_nothing(chapter):
    """JupyterLab shows it, of the HTML if there is any."""
    for cell in cells(chapter, "code"):
        if "predict" in cell["metadata"].get("tags", []):
            for output in cell["outputs"]:
                data = output.get("data", {})
                shown = data.get("text/html", data.get("text/plain", output.get("text", "")))
                assert re.fullmatch(r"(<div[^>]*>)?", "".join(shown).splitlines()[0]), source(cell)


def test_links_to_files_lead_somewhere(notebook):
    for cell in cells(notebook, "markdown"):
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", source(cell)):
            if "://" not in target:
                assert (notebook.parent / target).exists(), target


def test_a_chapter_states_aims_needs_and_times(chapter):
    opening = source(cells(chapter, "markdown")[0])

    assert opening.startswith("# ")
    for part in ("**You will be able to**", "**You need**", "**Time**"):
        assert part in opening


def test_a_chapter_has_a_notebook_of_solutions(chapter):
    assert (chapter.parent / "solutions" / chapter.name).exists()


def test_figures_and_timings_are_not_compared(notebook):
    for cell in cells(notebook, "code"):
        shown = [output.get("data", {}) for output in cell["outputs"]]
        pictures = any("image/png" in data or "<img" in "".join(data.get("text/html", "")) for data in shown)
        if pictures or "median_ms(" in source(cell):
            assert "nbval-ignore-output" in cell["metadata"].get("tags", []), source(cell)
