"""What the store hands out: plain, frozen records that show as tables in a notebook."""

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from lib.records import RecordList

CELL_LENGTH = 200  # characters of a value that a table shows


@dataclass(frozen=True, slots=True)
class MemoryItem:
    """One memory as it was when it was read. Changing `value` changes this copy only; `put` stores it."""

    user_id: str
    namespace: str
    key: str
    value: dict[str, Any] = field(hash=False)  # the JSON object
    created_at: datetime  # aware, UTC; kept when the memory is updated
    updated_at: datetime  # aware, UTC
    expires_at: datetime | None = None  # aware, UTC; from then on it is not found

    def _repr_html_(self) -> str:
        return MemoryList([self])._repr_html_()


class MemoryList(RecordList[MemoryItem]):
    """A list of memories. In a notebook it shows as a table; `pandas.DataFrame(items)` works too."""

    columns = ("namespace", "key", "value", "updated_at (UTC)")
    nothing = "no memories"

    @staticmethod
    def row(record: MemoryItem) -> tuple[str, ...]:
        return record.namespace, record.key, short(record.value), when(record.updated_at)

    @classmethod
    def line(cls, record: MemoryItem) -> str:
        return f"{when(record.updated_at)}  {record.namespace} / {record.key}: {short(record.value)}"


@dataclass(frozen=True, slots=True)
class Forgotten:
    """How many rows `forget_user` deleted, by table."""

    memories: int
    sessions: int
    cached_contents: int
    versions: int = 0  # earlier values of the memories
    archived: int = 0  # memories in the archive
    jobs: int = 0  # that waited, ran or had failed


def when(moment: datetime | None) -> str:
    return "now" if moment is None else f"{moment:%Y-%m-%d %H:%M}"


def short(value: dict[str, Any]) -> str:
    text = value["content"] if isinstance(value.get("content"), str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= CELL_LENGTH else f"{text[:CELL_LENGTH]}…"
