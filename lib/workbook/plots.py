"""The figures of the notebooks: one look, units on the axes, and a text for those who can't see them."""

import base64
import io
import statistics
from collections.abc import Mapping, Sequence
from html import escape

import matplotlib.pyplot as plt
from IPython.display import display
from matplotlib.axes import Axes

from lib.errors import InvalidInput

# Okabe and Ito's palette, told apart with any kind of colour vision.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")  # never by colour alone


def new_axes(title: str, x_label: str, y_label: str) -> Axes:
    """An empty figure of the common size; the title says what the reader should see."""
    _, axes = plt.subplots(figsize=(7, 3.8), layout="constrained")
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.8)
    axes.set_axisbelow(True)
    return axes


def name_beside(axes: Axes, name: str, point: tuple[float, float], color: str, *, left: bool = False) -> None:
    """Write a name to the right of a point, or to its left."""
    offset, side = (-8, "right") if left else (8, "left")
    axes.annotate(name, point, (offset, 0), textcoords="offset points", va="center", ha=side, color=color, fontsize=9)


def show_figure(axes: Axes, alt: str) -> None:
    """Display the figure with a text for those who can't see it, and close it.

    As HTML, because JupyterLab, Notebook and nbconvert drop an alternative text that stands in a
    picture's metadata; the bare picture stands beside it, for front ends that show no HTML.
    """
    if not alt.strip():
        raise InvalidInput("a figure needs an alternative text: say in a sentence or two what is to be seen.")
    png = io.BytesIO()
    axes.figure.figure.savefig(png, format="png", dpi=100, bbox_inches="tight")
    plt.close(axes.figure.figure)
    picture = base64.b64encode(png.getvalue()).decode()
    # JupyterLab shows the first line of a folded output, and the text would tell what the reader is to guess.
    html = f'<div>\n<img alt="{escape(alt)}" style="max-width:100%" src="data:image/png;base64,{picture}"></div>'
    display({"text/html": html, "image/png": picture, "text/plain": alt}, raw=True)


def curves(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    title: str,
    x_label: str,
    y_label: str,
    alt: str,
    logarithmic: bool = False,
) -> None:
    """Lines over a common axis, each named in a legend; from 0 up, or on two logarithmic axes."""
    axes = new_axes(title, x_label, y_label)
    styles = ("-", "--", ":", "-.")
    for number, (name, (x, y)) in enumerate(series.items()):
        color, style = COLORS[number % len(COLORS)], styles[number % len(styles)]
        axes.plot(x, y, color=color, linestyle=style, linewidth=2, label=name)
    if logarithmic:
        axes.set(xscale="log", yscale="log")
    else:
        axes.set(xlim=(0, None), ylim=(0, None))
        if all(isinstance(value, int) for x, _ in series.values() for value in x):  # no half a client
            axes.locator_params("x", integer=True)
    axes.legend(frameon=False)
    show_figure(axes, alt)


def strips(values: Mapping[str, Sequence[float]], *, title: str, x_label: str, alt: str, scale: str = "log") -> None:
    """A row of dots for each entry with its median; first entry on top. scale: "log" or "linear"."""
    axes = new_axes(title, x_label, "")
    for row, (name, color) in enumerate(zip(values, COLORS, strict=False)):
        dots = sorted(values[name])
        # Spread in height by their order, so that dots of equal value can be told apart.
        heights = [row + 0.28 * ((number * 0.618) % 1 - 0.5) for number in range(len(dots))]
        axes.plot(dots, heights, ".", color=color, alpha=0.5, markersize=8)
        median = statistics.median_high(dots)
        axes.annotate(f"median {float(f'{median:.2g}'):g}", (median, row - 0.24), ha="center", color=color)
    axes.set_xscale(scale)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.margins(x=0.12)
    axes.set_yticks(range(len(values)), list(values))
    axes.set_ylim(len(values) - 0.5, -0.5)
    axes.grid(visible=False)
    show_figure(axes, alt)


def break_even(
    hit_rates: Sequence[float],
    least_usd: Sequence[float],
    points: Mapping[str, tuple[float, float]],
    *,
    title: str,
    alt: str,
) -> None:
    """The cost of a generation over the hit rate: above the line a cache pays, below it costs more than it saves.

    hit_rates: 0 to 1. least_usd: the line, in USD, infinite where nothing pays. points: name -> (hit rate, USD).
    """
    axes = new_axes(title, "hit rate, %", "one generation costs, USD")
    top, bottom = 0.2, 1e-8
    line = [min(usd, top) for usd in least_usd]
    percents = [100 * rate for rate in hit_rates]
    axes.set_yscale("log")
    axes.fill_between(percents, line, top, color=COLORS[2], alpha=0.15, linewidth=0)
    axes.fill_between(percents, bottom, line, color=COLORS[1], alpha=0.15, linewidth=0)
    axes.plot(percents, line, color="#000000", linewidth=1.5)
    axes.text(60, 6e-2, "a cache pays", color=COLORS[2], ha="center")
    axes.text(45, 4e-8, "it costs more than it saves", color=COLORS[1], ha="center")
    for (name, (rate, usd)), marker in zip(points.items(), MARKERS, strict=False):
        axes.plot(100 * rate, usd, marker=marker, markersize=8, color=COLORS[0], linestyle="none", clip_on=False)
        name_beside(axes, name, (100 * rate, usd), "#333333", left=rate > 0.7)
    axes.set_ylim(bottom, top)
    axes.set_xlim(-4, 100)  # so that what is never hit stands beside both, and not in the green
    show_figure(axes, alt)


def rank_flips(ranks: Mapping[str, Sequence[str]], *, title: str, x_label: str, alt: str, marked: str = "") -> None:
    """Places of the same things in several rankings, as lines that cross where they change places; the best on top.

    ranks: name of a ranking -> its things, best first. marked: the one that the eye should follow.
    """
    axes = new_axes(title, x_label, "place")
    columns = list(ranks)
    things = list(dict.fromkeys(thing for ranking in ranks.values() for thing in ranking))
    for thing in things:
        places = {x: list(ranks[column]).index(thing) + 1 for x, column in enumerate(columns) if thing in ranks[column]}
        color, width = (COLORS[1], 3) if thing == marked else ("#999999", 1.2)
        axes.plot(list(places), list(places.values()), color=color, linewidth=width, marker="o", markersize=5)
        last = max(places)
        if thing == marked or last == len(columns) - 1:  # a name in the middle would lie under the other lines
            name_beside(axes, thing, (last, places[last]), color if thing == marked else "#555555")
    axes.set_xticks(range(len(columns)), columns)
    axes.set_xlim(-0.2, (len(columns) - 1) * 1.45 + 0.3)  # room for the names
    axes.invert_yaxis()
    axes.grid(visible=False)
    show_figure(axes, alt)


def text_map(
    vectors: Sequence[Sequence[float]], groups: Sequence[str], *, title: str, alt: str, rest: str = ""
) -> None:
    """Vectors in the two directions in which they differ most, a mark for each group; the group `rest` in grey."""
    import numpy as np

    centred = np.asarray(vectors) - np.mean(vectors, axis=0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    places = centred @ directions[:2].T
    axes = new_axes(title, "first direction (no unit)", "second direction (no unit)")
    order = [*dict.fromkeys(group for group in groups if group != rest), *([rest] if rest in groups else [])]
    for group, color, marker in zip(order, COLORS, MARKERS, strict=False):
        here = [number for number, name in enumerate(groups) if name == group]
        look = {"color": "#BBBBBB", "marker": "."} if group == rest else {"color": color, "marker": marker, "s": 60}
        axes.scatter(places[here, 0], places[here, 1], label=group, **look)
    axes.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1, 1))
    show_figure(axes, alt)


def bars(values: Mapping[str, float], *, title: str, x_label: str, alt: str, unit: str = "") -> None:
    """Horizontal bars with their values written at the ends, first entry on top."""
    grouped_bars(
        {name: {"": value} for name, value in values.items()}, title=title, x_label=x_label, alt=alt, unit=unit
    )


def grouped_bars(
    groups: Mapping[str, Mapping[str, float]], *, title: str, x_label: str, alt: str, unit: str = ""
) -> None:
    """Horizontal bars in groups, the same measures in each, with their values at the ends; first group on top."""
    axes = new_axes(title, x_label, "")
    measures = list(next(iter(groups.values())))
    height = 0.8 / len(measures)
    for number, (measure, color) in enumerate(zip(measures, COLORS, strict=False)):
        heights = [row - 0.4 + height * (number + 0.5) for row in range(len(groups))]
        drawn = axes.barh(heights, [group[measure] for group in groups.values()], height, color=color, label=measure)
        axes.bar_label(drawn, fmt=lambda value: f"{value:g}{unit}", padding=4)
    axes.set_yticks(range(len(groups)), list(groups))
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.margins(x=0.12)
    if len(measures) > 1:
        axes.figure.legend(frameon=False, loc="outside lower right", ncols=len(measures))
    show_figure(axes, alt)
