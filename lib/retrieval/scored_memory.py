"""Memories with their scores, and how each score came about."""

from dataclasses import dataclass, field

from lib.records import RecordList
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
        return repr(ScoredList([self]))

    def _repr_html_(self) -> str:
        return ScoredList([self])._repr_html_()


class ScoredList(RecordList[ScoredMemory]):
    """Retrieved memories, best first. In a notebook it shows as a table, without scores; `explain()` shows those.

    (They differ in the last digits from one processor to another.)
    """

    columns = MemoryList.columns
    nothing = MemoryList.nothing

    @property
    def items(self) -> MemoryList:
        """The memories without their scores."""
        return MemoryList(scored.item for scored in self)

    @staticmethod
    def row(record: ScoredMemory) -> tuple[str, ...]:
        return MemoryList.row(record.item)

    @classmethod
    def line(cls, record: ScoredMemory) -> str:
        return MemoryList.line(record.item)

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
