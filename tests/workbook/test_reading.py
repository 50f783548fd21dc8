"""What a reader sees: figures with a text for those who can't see them, and code and tables in any theme's colours."""

import re
from collections.abc import Callable
from typing import Any

import matplotlib
import nbformat
import pytest
from bs4 import BeautifulSoup
from nbconvert import HTMLExporter

from lib.errors import InvalidInput
from lib.records import html_table
from lib.retrieval._explanation import PARTS
from lib.store.memory_store import MemoryStore
from lib.workbook import plots
from lib.workbook.lesson import show

matplotlib.use("agg")
ODD = 'Two bars: "b" is <twice> as long & isn\'t "a".'
FIGURES: list[Callable[[str], None]] = [
    lambda alt: plots.bars({"a": 1, "b": 2}, title="t", x_label="x, ms", alt=alt),
    lambda alt: plots.curves({"a": ([1, 2], [3, 4])}, title="t", x_label="x", y_label="y", alt=alt),
    lambda alt: plots.curves({"a": ([1, 9], [3, 4])}, title="t", x_label="x", y_label="y", alt=alt, logarithmic=True),
    lambda alt: plots.grouped_bars({"g": {"a": 1, "b": 2}}, title="t", x_label="x", alt=alt),
    lambda alt: plots.strips({"a": [1, 2, 3]}, title="t", x_label="x", alt=alt),
    lambda alt: plots.rank_flips({"a": "xyz", "b": "zyx"}, title="t", x_label="x", alt=alt, marked="x"),
    lambda alt: plots.text_map([[0, 1], [1, 0], [2, 1]], ["a", "a", "b"], title="t", alt=alt),
    lambda alt: plots.break_even([0.5, 1], [1e-3, 1e-4], {"p": (0.5, 0.01)}, title="t", alt=alt),
]


def luminance(color: str) -> float:
    channels = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * channel for weight, channel in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    """As WCAG 2 defines it."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.fixture
def displayed(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """What figures hand to the notebook."""
    shown: list[dict[str, str]] = []
    monkeypatch.setattr(plots, "display", lambda data, **_: shown.append(data))
    return shown


def rendered(outputs: list[dict[str, str]]) -> BeautifulSoup:
    """The page that nbconvert makes of a notebook with these outputs."""
    cell = nbformat.v4.new_code_cell(outputs=[nbformat.v4.new_output("display_data", data) for data in outputs])
    page, _ = HTMLExporter().from_notebook_node(nbformat.v4.new_notebook(cells=[cell]))
    return BeautifulSoup(page, "html.parser")


def test_the_alternative_text_of_every_figure_reaches_the_page(displayed: list[dict[str, str]]) -> None:
    for number, draw in enumerate(FIGURES):
        draw(f"{number}: {ODD}")

    images = rendered(displayed).find_all("img")

    assert [image["alt"] for image in images] == [f"{number}: {ODD}" for number in range(len(FIGURES))]
    assert all(image["src"].startswith("data:image/png;base64,iVBOR") for image in images)


def test_a_front_end_without_html_gets_the_same_picture_or_its_text(displayed: list[dict[str, str]]) -> None:
    FIGURES[0](ODD)

    [data] = displayed

    assert data["image/png"] in data["text/html"] and data["text/plain"] == ODD


def test_a_figure_without_a_text_is_refused(displayed: list[dict[str, str]]) -> None:
    with pytest.raises(InvalidInput, match="alternative text"):
        FIGURES[0]("  ")

    assert displayed == []


def test_code_is_left_to_the_themes_own_highlighting() -> None:
    source = show(MemoryStore.put)
    data: Any = {"text/markdown": source._repr_markdown_()}

    page = rendered([data])

    assert page.find("div", class_="jp-RenderedMarkdown").pre.text.strip() == source.code
    assert page.find("em", string="lib/store/memory_store.py") and "style=" not in data["text/markdown"]


def test_a_table_has_no_colour_but_the_themes_and_breaks_no_word() -> None:
    html = html_table(("what",), [("a" * 300,)])

    assert set(re.findall(r"color:([^;\"]+)", html)) == {"var(--jp-content-font-color1,inherit)"}
    assert "overflow-x:auto" in html and "word-break:normal" in html


@pytest.mark.parametrize("page", ["#ffffff", "#111111"])
def test_the_bars_of_a_score_can_be_seen_on_a_light_and_on_a_dark_page(page: str) -> None:
    assert all(contrast(color, page) >= 3 for color in PARTS.values())
