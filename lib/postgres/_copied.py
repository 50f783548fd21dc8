"""What a copy of memories did, as a table, and the checksums that it is judged by."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any

from lib.html_table import html_table

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=lambda when: (when - _EPOCH) // _MICROSECOND)


def checksum(row: Mapping[str, Any] | list[Any]) -> int:
    """SHA-256 of a row in canonical JSON, as a number: keys in order, times in microseconds since 1970 in UTC.

    The sum of those of many rows is the same in whatever order they come, and from whichever database.

    >>> checksum({"a": 1, "b": 2}) == checksum({"b": 2, "a": 1})
    True
    >>> checksum({"a": 1}) == checksum({"a": 1.0})
    False
    """
    return int.from_bytes(hashlib.sha256(_encode.encode(row).encode()).digest())


def sum_of(row: Mapping[str, Any]) -> int:
    """Return the checksum of a row without its id, which in the target may be another one."""
    return checksum({name: value for name, value in row.items() if name != "id"})


def add_rows(tally: Counter[str], fate: str, rows: list[dict[str, Any]], in_target: list[dict[str, Any]]) -> None:
    """Count rows of the source, of one fate, and what the target has in their place; sum both up."""
    total = sum(map(sum_of, rows))
    tally[fate] += len(rows)
    tally["in_target"] += len(in_target)
    tally["source_sum"] += total
    if fate == "kept":
        tally["kept_sum"] += total
    else:
        tally["target_sum"] += sum(map(sum_of, in_target))


@dataclass(frozen=True, slots=True)
class CopiedTable:
    """What became of the rows of one table: `copied`, `replaced`, `already_there` and `kept` add up to `in_source`."""

    in_source: int = 0
    copied: int = 0  # new in the target
    replaced: int = 0  # copied over one that was older in the target
    already_there: int = 0  # the same in the target before; nothing was written
    kept: int = 0  # not copied: the one in the target is newer, and stays
    missing: int = 0  # found by the verification: not in the target as they are in the source
    other_id: int = 0  # in the target under another id, because that of the source was taken, or it was there before
    only_in_target: int = 0  # rows of the target that the source doesn't have
    source_checksum: str = ""  # sum of the rows' SHA-256, without those kept; 64 hexadecimal digits
    target_checksum: str = ""

    @classmethod
    def of(cls, copied: Counter[str], verified: Counter[str], count_in_target: int) -> "CopiedTable":
        """Make it of what the copy counted, what the verification did, and all rows of the target."""
        fates = {fate: copied[fate] for fate in ("copied", "replaced", "already_there", "kept")}
        # Without those kept by the copy: one that only now looks newer in the target isn't as we wrote it.
        sums = verified["source_sum"] - copied["kept_sum"], verified["target_sum"]
        found = Counter[str]() if verified is copied else verified
        return cls(
            sum(fates.values()),
            **fates,
            missing=found["copied"] + found["replaced"] + max(0, found["kept"] - copied["kept"]),
            other_id=verified["other_id"],
            only_in_target=max(0, count_in_target - verified["in_target"]),
            source_checksum=f"{sums[0] % 2**256:064x}",
            target_checksum=f"{sums[1] % 2**256:064x}",
        )

    @property
    def verified(self) -> bool:
        """Whether all rows that were to be copied are in the target, and the same to the last digit."""
        return self.source_checksum == self.target_checksum


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
        return sum(table.copied + table.replaced for _, table in self._tables())

    @property
    def verified(self) -> bool:
        """Whether every row that was to be copied was found in both databases, the same, after the copy."""
        return all(table.verified for _, table in self._tables())

    def _tables(self) -> list[tuple[str, CopiedTable]]:
        return [(field.name, getattr(self, field.name)) for field in fields(self)]

    def _rows(self) -> list[tuple[Any, ...]]:
        return [
            (
                name, f"{t.in_source:,}", f"{t.copied:,}", f"{t.replaced:,}", f"{t.already_there:,}", f"{t.kept:,}",
                f"{t.other_id:,}", f"{t.only_in_target:,}", "equal" if t.verified else f"DIFFERENT: {t.missing:,} rows",
            )
            for name, t in self._tables()
        ]  # fmt: skip

    def __repr__(self) -> str:
        rows = [_COLUMNS, *self._rows()]
        widths = [max(len(row[place]) for row in rows) for place in range(len(_COLUMNS))]
        return "\n".join(
            "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows
        )

    def _repr_html_(self) -> str:
        return html_table(_COLUMNS, self._rows())


_COLUMNS = (
    "table", "in the source", "copied", "replaced", "already there", "kept: newer in the target", "under another id",
    "only in the target", "checksums",
)  # fmt: skip
