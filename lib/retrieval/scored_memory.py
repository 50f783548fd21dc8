"""Memories with their scores, and how each score came about."""

from dataclasses import dataclass, field
from typing import Any

from lib.retrieval._explanation import PARTS, Explanation
from lib.store.items import MemoryItem, MemoryList


@dataclass(frozen=True, slots=True)
class ScoredMemory:
    """A memory that was retrieved, its score, and the parts of the score."""

    item: MemoryItem
    score: float  # what the ranking went by: the sum of `contributions`, or more for a newer version (see `note`)
    relevance: float  # the lexical and the semantic contribution: how well it answers, whatever its age
    parts: dict[str, float] = field(default_factory=dict, hash=False)  # each from 0 to 1, before weighting
    contributions: dict[str, float] = field(default_factory=dict, hash=False)  # part × weight
    note: str = ""  # why it stands where it stands, if the parts don't say it

    def explain(self) -> Explanation:
        """Show the parts of the score as a table and as a bar."""
        return ScoredList([self]).explain()

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

    def __getitem__(self, index: Any) -> Any:
        chosen = super().__getitem__(index)
        return ScoredList(chosen) if isinstance(index, slice) else chosen

    def explain(self) -> Explanation:
        """Show the parts of all scores as a table and as bars."""
        return Explanation(
            [
                {
                    "memory": f"{scored.item.namespace}/{scored.item.key}",
                    "score": scored.score,
                    **{part: scored.contributions.get(part, 0.0) for part in PARTS},
                    "note": scored.note,
                }
                for scored in self
            ]
        )

    def __repr__(self) -> str:
        return repr(self.items)

    def _repr_html_(self) -> str:
        return self.items._repr_html_()
