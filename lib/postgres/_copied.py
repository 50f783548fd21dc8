"""What a copy of memories did, as a table, and the checksums that it is judged by."""

import hashlib
import json
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
