"""How scores came about, as a table and as bars."""

from html import escape
from typing import Any

from lib.records import html_table

# What a score is made of, in the order of the bars. The colours are seaborn's colour-blind-safe ones, some of them
# darker: each has a contrast of more than 3 with a white page and with a black one.
PARTS = {
    "lexical": "#0173b2",
    "semantic": "#c77800",
    "subject": "#029e73",
    "time": "#c46fb4",
    "recency": "#9a6b45",
    "importance": "#8a8a8a",
}
_TEXT = "color:var(--jp-content-font-color1,inherit)"


class Explanation:
    """Scores part by part. In a notebook: a bar for each memory, and the numbers under it."""

    def __init__(self, rows: list[dict[str, Any]]):
        self.rows = rows  # one for each memory: its address, its score, each part's contribution, and the note

    def __repr__(self) -> str:
        lines = []
        for row in self.rows:
            told = ", ".join(f"{part} {row[part]:.2f}" for part in PARTS if row[part])
            note = f"  ({row['note']})" if row["note"] else ""
            lines.append(f"{row['score']:.2f}  {row['memory']}: {told or 'nothing'}{note}")
        return "\n".join(lines) or "no memories"

    def _repr_html_(self) -> str:
        if not self.rows:
            return "<em>no memories</em>"
        used = [part for part in PARTS if any(row[part] for row in self.rows)]
        longest = max(sum(row[part] for part in PARTS) for row in self.rows) or 1.0
        legend = " ".join(
            f'<span style="display:inline-block;width:0.8em;height:0.8em;background-color:{PARTS[part]}"></span> {part}'
            for part in used
        )
        bars = "".join(_bar(row, used, longest) for row in self.rows)
        numbers = [
            (row["memory"], f"{row['score']:.2f}", *(f"{row[part]:.2f}" for part in used), row["note"])
            for row in self.rows
        ]
        drawn = f'<div style="{_TEXT}"><div>{legend}</div><div>{bars}</div></div>'
        return drawn + html_table(("memory", "score", *used, ""), numbers)


def _bar(row: dict[str, Any], parts: list[str], longest: float) -> str:
    """One stacked bar: each part as wide as it contributes."""
    told = ", ".join(f"{part} {row[part]:.2f}" for part in parts)
    pieces = "".join(
        f'<span style="display:inline-block;height:1.1em;width:{60 * row[part] / longest:.2f}%;'
        f'background-color:{PARTS[part]}"></span>'
        for part in parts
    )
    name = escape(row["memory"])
    return (
        f'<div role="img" aria-label="{name}: {escape(told)}" style="white-space:nowrap;line-height:1.3em">'
        f'<span style="display:inline-block;width:38%;overflow:hidden;text-overflow:ellipsis;vertical-align:bottom">'
        f"{name}</span>{pieces}</div>"
    )
