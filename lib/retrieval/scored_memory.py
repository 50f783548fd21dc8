"""Memories with their scores, and how each score came about."""

from dataclasses import dataclass, field
from html import escape
from typing import Any

from lib.html_table import html_table
from lib.store.items import MemoryItem, MemoryList

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


@dataclass(frozen=True, slots=True)
class ScoredMemory:
    """A memory that was retrieved, its score, and the parts of the score."""

    item: MemoryItem
    score: float  # what the ranking went by: the sum of `contributions`, or more for a newer version (see `note`)
    relevance: float  # the lexical and the semantic contribution: how well it answers, whatever its age
    parts: dict[str, float] = field(default_factory=dict, hash=False)  # each from 0 to 1, before weighting
    contributions: dict[str, float] = field(default_factory=dict, hash=False)  # part × weight
    note: str = ""  # why it stands where it stands, if the parts don't say it

    def explain(self) -> "Explanation":
        """The parts of the score as a table and as a bar."""
        return Explanation([self])

    def __repr__(self) -> str:
        return repr(MemoryList([self.item]))

    def _repr_html_(self) -> str:
        return MemoryList([self.item])._repr_html_()


class ScoredList(list[ScoredMemory]):
    """Retrieved memories, best first. In a notebook it shows as a table, without scores; `explain()` shows those.

    (They differ in the last digits from one processor to another.)
    """

    @property
    def items(self) -> MemoryList:
        """The memories without their scores."""
        return MemoryList(scored.item for scored in self)

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        return ScoredList(found) if isinstance(place, slice) else found

    def explain(self) -> "Explanation":
        """The parts of all scores as a table and as bars."""
        return Explanation(self)

    def __repr__(self) -> str:
        return repr(self.items)

    def _repr_html_(self) -> str:
        return self.items._repr_html_()


class Explanation:
    """Scores part by part. In a notebook: a bar for each memory, and the numbers under it."""

    def __init__(self, scored: "list[ScoredMemory]"):
        self.scored = list(scored)

    def rows(self) -> list[dict[str, Any]]:
        """One dict for each memory: its address, its score, each part's contribution, and the note."""
        return [
            {
                "memory": f"{s.item.namespace}/{s.item.key}",
                "score": s.score,
                **{part: s.contributions.get(part, 0.0) for part in PARTS},
                "note": s.note,
            }
            for s in self.scored
        ]

    def __repr__(self) -> str:
        lines = []
        for row in self.rows():
            told = ", ".join(f"{part} {row[part]:.2f}" for part in PARTS if row[part])
            note = f"  ({row['note']})" if row["note"] else ""
            lines.append(f"{row['score']:.2f}  {row['memory']}: {told or 'nothing'}{note}")
        return "\n".join(lines) or "no memories"

    def _repr_html_(self) -> str:
        if not self.scored:
            return "<em>no memories</em>"
        used = [part for part in PARTS if any(s.contributions.get(part) for s in self.scored)]
        longest = max(sum(s.contributions.values()) for s in self.scored) or 1.0
        legend = " ".join(
            f'<span style="display:inline-block;width:0.8em;height:0.8em;background-color:{PARTS[part]}"></span> {part}'
            for part in used
        )
        bars = "".join(_bar(s, used, longest) for s in self.scored)
        numbers = [
            (row["memory"], f"{row['score']:.2f}", *(f"{row[part]:.2f}" for part in used), row["note"])
            for row in self.rows()
        ]
        return f'<div style="{_TEXT}">{legend}</div><div style="{_TEXT}">{bars}</div>' + html_table(
            ("memory", "score", *used, ""), numbers
        )


def _bar(scored: ScoredMemory, parts: list[str], longest: float) -> str:
    """One stacked bar: each part as wide as it contributes."""
    told = ", ".join(f"{part} {scored.contributions.get(part, 0.0):.2f}" for part in parts)
    widths = {part: 60 * scored.contributions.get(part, 0.0) / longest for part in parts}
    pieces = "".join(
        f'<span style="display:inline-block;height:1.1em;width:{width:.2f}%;background-color:{PARTS[part]}"></span>'
        for part, width in widths.items()
    )
    name = escape(f"{scored.item.namespace}/{scored.item.key}")
    return (
        f'<div role="img" aria-label="{name}: {escape(told)}" style="white-space:nowrap;line-height:1.3em">'
        f'<span style="display:inline-block;width:38%;overflow:hidden;text-overflow:ellipsis;vertical-align:bottom">'
        f"{name}</span>{pieces}</div>"
    )
