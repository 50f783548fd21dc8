"""The figures of the notebooks: one look, units on the axes, and a text for those who can't see them."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from IPython.display import display
from matplotlib.axes import Axes

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


def show_figure(axes: Axes, alt: str) -> None:
    """Display the figure with its alternative text, and close it."""
    display(axes.figure, metadata={"image/png": {"alt": alt}})
    plt.close(axes.figure)


def growth(series: Mapping[str, Mapping[int, float]], *, title: str, x_label: str, y_label: str, alt: str) -> None:
    """Lines over sizes, both axes logarithmic; each line is named at its end."""
    axes = new_axes(title, x_label, y_label)
    for (name, points), color, marker in zip(series.items(), COLORS, MARKERS, strict=False):
        sizes, values = list(points), list(points.values())
        axes.plot(sizes, values, color=color, marker=marker, linewidth=2)
        axes.annotate(
            f" {name}", (sizes[-1], values[-1]), xytext=(6, 0), textcoords="offset points", color=color, va="center"
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.margins(x=0.05)
    axes.set_xlim(right=max(max(points) for points in series.values()) * 4)  # room for the names
    show_figure(axes, alt)


def bars(values: Mapping[str, float], *, title: str, x_label: str, alt: str, unit: str = "") -> None:
    """Horizontal bars with their values written at the ends, first entry on top."""
    axes = new_axes(title, x_label, "")
    names: Sequence[str] = list(values)[::-1]
    drawn = axes.barh(names, [values[name] for name in names], color=COLORS[0])
    axes.bar_label(drawn, fmt=lambda value: f"{value:g}{unit}", padding=4)
    axes.grid(visible=False)
    axes.margins(x=0.12)
    show_figure(axes, alt)


def grouped_bars(groups: Mapping[str, Mapping[str, float]], *, title: str, x_label: str, alt: str) -> None:
    """Horizontal bars in groups, the same measures in each, with their values at the ends; first group on top."""
    axes = new_axes(title, x_label, "")
    measures = list(next(iter(groups.values())))
    height = 0.8 / len(measures)
    for number, (measure, color) in enumerate(zip(measures, COLORS, strict=False)):
        places = [row - 0.4 + height * (number + 0.5) for row in range(len(groups))]
        drawn = axes.barh(places, [group[measure] for group in groups.values()], height, color=color, label=measure)
        axes.bar_label(drawn, fmt="{:g}", padding=4)
    axes.set_yticks(range(len(groups)), list(groups))
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.margins(x=0.12)
    axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=len(measures), borderaxespad=0)
    show_figure(axes, alt)
