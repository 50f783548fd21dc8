"""The tables of a live database as a diagram: read from the server, not from the models."""

import warnings
from collections.abc import Sequence
from typing import Any

from matplotlib.patches import Rectangle
from sqlalchemy import Engine, MetaData, Table
from sqlalchemy.exc import SAWarning

from lib.workbook.plots import COLORS, new_axes, show_figure

LINE = 1.0  # height of a column's line
WIDTH = 8.6  # of a table's box
GAP = 3.2  # between two columns of boxes, for the arrows


def schema_diagram(engine: Engine, columns: Sequence[Sequence[str]], *, alt: str, title: str) -> None:
    """Draw tables in columns of boxes, with an arrow from each foreign key to the table that it names.

    columns: names of tables, from left to right and from top to bottom.
    Errors: sqlalchemy.exc.InvalidRequestError, which names the tables that aren't there.
    """
    metadata = MetaData()
    with warnings.catch_warnings(action="ignore", category=SAWarning):  # of types that an extension has brought
        metadata.reflect(engine, only=[name for column in columns for name in column], resolve_fks=False)
    tables = metadata.tables
    axes = new_axes(title, "", "")
    boxes = {}
    for at, column in enumerate(columns):
        top = 0.0
        for name in column:
            boxes[name] = _box(axes, tables[name], at * (WIDTH + GAP), top, engine)
            top -= LINE * (len(tables[name].columns) + 2.2)
    for name, table in tables.items():
        for source in table.columns:
            for key in source.foreign_keys:
                target = key.column.table.name
                if target in boxes:
                    (x, y), (to_x, to_y) = boxes[name][source.name], boxes[target][key.column.name]
                    back = x > to_x
                    start, end = (x, to_x + WIDTH) if back else (x + WIDTH, to_x)
                    axes.annotate(
                        "", (end, to_y), (start, y), arrowprops={"arrowstyle": "-|>", "color": COLORS[1], "lw": 1.3}
                    )
    height = max(sum(len(tables[name].columns) + 2.2 for name in column) for column in columns)
    axes.set_xlim(-0.3, len(columns) * (WIDTH + GAP) - GAP + 0.3)
    axes.set_ylim(-LINE * height, LINE)
    axes.set_axis_off()
    axes.figure.figure.set_size_inches(3.4 * len(columns), 0.24 * height + 0.6)
    show_figure(axes, alt)


def _box(axes, table: Table, left: float, top: float, engine: Engine) -> dict[str, tuple[float, float]]:
    """Draw one table; where the line of each column is."""
    lines = {}
    look: dict[str, Any] = {"edgecolor": "#8899AA", "linewidth": 0.6}
    axes.add_patch(Rectangle((left, top - LINE * 0.5), WIDTH, LINE, facecolor=COLORS[0], **look))
    axes.text(left + 0.2, top, table.name, va="center", color="white", weight="bold", fontsize=9)
    for number, column in enumerate(table.columns, 1):
        y = top - LINE * number
        axes.add_patch(Rectangle((left, y - LINE * 0.5), WIDTH, LINE, facecolor="#F2F5F8", **look))
        is_key = column.primary_key
        axes.text(left + 0.2, y, column.name, va="center", fontsize=8, weight="bold" if is_key else "normal")
        type_name = column.type.compile(engine.dialect).lower().replace("timestamp with time zone", "timestamptz")
        type_name += "" if column.nullable else " *"
        axes.text(left + WIDTH - 0.2, y, type_name, va="center", ha="right", fontsize=7.5, color="#555555")
        lines[column.name] = (left, y)
    return lines
