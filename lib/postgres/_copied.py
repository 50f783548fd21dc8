"""What a copy of memories did, as a table, and the checksums that it is judged by."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from typing import Any

from lib.html_table import html_table

FATES = ("copied", "replaced", "already_there", "kept")  # of a row of the source


def checksum(row: Mapping[str, Any]) -> int:
    """SHA-256 of a row without its id, which in the target may be another one; as a number.

    The sum of those of many rows is the same in whatever order they come, and from whichever database.

    >>> checksum({"id": 1, "value": "{}"}) == checksum({"id": 2, "value": "{}"})
    True
    """
    values = [(name, value) for name, value in row.items() if name != "id"]
    return int.from_bytes(hashlib.sha256(repr(values).encode()).digest())


def count_rows(tally: Counter[str], fate: str, rows: Sequence[Any], in_target: Sequence[Any]) -> None:
    """Count rows of the source, of one fate, and what the target has in their place; sum up those not kept."""
    tally[fate] += len(rows)
    tally["in_target"] += len(in_target)
    if fate != "kept":
        tally["source_sum"] += sum(map(checksum, rows))
        tally["target_sum"] += sum(map(checksum, in_target))


@dataclass(frozen=True, slots=True)
class CopiedTable:
    """What became of the rows of one table: `copied`, `replaced`, `already_there` and `kept` add up to `in_source`."""

    in_source: int
    copied: int  # new in the target
    replaced: int  # copied over one that was older in the target
    already_there: int  # the same in the target before; nothing was written
    kept: int  # not copied: the one in the target is newer, and stays
    other_id: int  # in the target under another id: it was there before
    only_in_target: int  # rows of the target that the source doesn't have
    missing: int  # found by the verification: not in the target as they are in the source
    source_checksum: str  # sum of the rows' SHA-256, without those kept; 64 hexadecimal digits
    target_checksum: str

    @classmethod
    def of(cls, copied: Counter[str], verified: Counter[str], count_in_target: int) -> "CopiedTable":
        """Make it of what the copy counted, what the verification did, and all rows of the target."""
        return cls(
            in_source=sum(copied[fate] for fate in FATES),
            **{fate: copied[fate] for fate in FATES},
            other_id=verified["other_id"],
            only_in_target=max(0, count_in_target - verified["in_target"]),
            # One that only now looks newer in the target isn't as we wrote it.
            missing=verified["copied"] + verified["replaced"] + max(0, verified["kept"] - copied["kept"]),
            source_checksum=f"{verified['source_sum'] % 2**256:064x}",
            target_checksum=f"{verified['target_sum'] % 2**256:064x}",
        )

    @property
    def verified(self) -> bool:
        """Whether all rows that were to be copied are in the target, and the same to the last digit."""
        return not self.missing and self.source_checksum == self.target_checksum


@dataclass(frozen=True, slots=True)
class Copied:
    """What `copy_memories` did, by table. In a notebook it shows as a table."""

    users: CopiedTable
    memories: CopiedTable
    versions: CopiedTable  # earlier values of the memories
    archived: CopiedTable
    sessions: CopiedTable

    @property
    def copied(self) -> int:
        """How many rows were written to the target: those that were new in it, and those that replaced an older."""
        return sum(table.copied + table.replaced for table in self._tables().values())

    @property
    def verified(self) -> bool:
        """Whether every row that was to be copied was found in both databases, the same, after the copy."""
        return all(table.verified for table in self._tables().values())

    def _tables(self) -> dict[str, CopiedTable]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def _rows(self) -> list[tuple[str, ...]]:
        return [
            (
                name,
                *(f"{number:,}" for number in astuple(table)[: len(_COLUMNS) - 2]),
                "equal" if table.verified else f"DIFFERENT: {table.missing:,} rows",
            )
            for name, table in self._tables().items()
        ]

    def __repr__(self) -> str:
        rows = [_COLUMNS, *self._rows()]
        first, *others = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join("  ".join([row[0].ljust(first), *map(str.rjust, row[1:], others)]) for row in rows)

    def _repr_html_(self) -> str:
        return html_table(_COLUMNS, self._rows())


_COLUMNS = (
    "table", "in the source", "copied", "replaced", "already there", "kept: newer in the target", "under another id",
    "only in the target", "checksums",
)  # fmt: skip
