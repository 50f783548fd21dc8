"""What the store hands out: plain, frozen records that show as tables in a notebook."""

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from lib.html_table import RecordList

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
        return record.namespace, record.key, _short(record.value), _when(record.updated_at)

    @classmethod
    def line(cls, record: MemoryItem) -> str:
        return f"{_when(record.updated_at)}  {record.namespace} / {record.key}: {_short(record.value)}"


@dataclass(frozen=True, slots=True)
class ArchivedItem(MemoryItem):
    """One memory of the archive, with when and why it went there."""

    archived_at: datetime | None = None  # aware, UTC
    reason: str = ""

    def _repr_html_(self) -> str:
        return ArchivedList([self])._repr_html_()


class ArchivedList(RecordList[ArchivedItem]):
    """Memories of the archive. In a notebook it shows as a table."""

    columns = ("namespace", "key", "value", "archived_at (UTC)", "reason")
    nothing = "no memories"
    line = MemoryList.line

    @staticmethod
    def row(record: ArchivedItem) -> tuple[str, ...]:
        return *MemoryList.row(record)[:3], _when(record.archived_at), record.reason


@dataclass(frozen=True, slots=True)
class MemoryVersion:
    """A value of one memory, and how long it was the current one."""

    value: dict[str, Any] = field(hash=False)  # the JSON object
    written_at: datetime  # aware, UTC
    replaced_at: datetime | None  # aware, UTC; None for the current one

    def _repr_html_(self) -> str:
        return VersionList([self])._repr_html_()


class VersionList(RecordList[MemoryVersion]):
    """The versions of one memory, oldest first. In a notebook it shows as a table."""

    columns = ("value", "written_at (UTC)", "replaced_at (UTC)")
    nothing = "no versions"

    @staticmethod
    def row(record: MemoryVersion) -> tuple[str, ...]:
        return _short(record.value), _when(record.written_at), _when(record.replaced_at)

    @classmethod
    def line(cls, record: MemoryVersion) -> str:
        return f"{_when(record.written_at)} - {_when(record.replaced_at):16}  {_short(record.value)}"


@dataclass(frozen=True, slots=True)
class FinishedSession:
    """One conversation that is over, as it was when it was read."""

    id: str  # a UUID
    user_id: str
    started_at: datetime  # aware, UTC
    ended_at: datetime  # aware, UTC
    transcript: list[dict[str, Any]] = field(hash=False)  # dicts with turn, speaker and text
    state: str  # pending, extracting, extracted or failed
    attempts: int  # how often it was claimed
    error: str | None  # why it failed last
    summary: str | None
    details: dict[str, Any] = field(hash=False)

    def _repr_html_(self) -> str:
        return SessionList([self])._repr_html_()


class SessionList(RecordList[FinishedSession]):
    """A list of conversations. In a notebook it shows as a table."""

    columns = ("user_id", "ended_at (UTC)", "turns", "state", "attempts", "summary or error")
    nothing = "no sessions"

    @staticmethod
    def row(record: FinishedSession) -> tuple[Any, ...]:
        result = record.error or record.summary or ""
        ended_at, turns = _when(record.ended_at), len(record.transcript)
        return record.user_id, ended_at, turns, record.state, record.attempts, result


@dataclass(frozen=True, slots=True)
class Forgotten:
    """How many rows `forget_user` deleted, by table."""

    memories: int
    sessions: int
    cached_contents: int
    versions: int = 0  # earlier values of the memories
    archived: int = 0  # memories in the archive
    jobs: int = 0  # that waited, ran or had failed


def _when(moment: datetime | None) -> str:
    return "now" if moment is None else f"{moment:%Y-%m-%d %H:%M}"


def _short(value: dict[str, Any]) -> str:
    text = value["content"] if isinstance(value.get("content"), str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= CELL_LENGTH else f"{text[:CELL_LENGTH]}…"
