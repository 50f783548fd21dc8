"""What the store hands out: plain, frozen records that show as tables in a notebook."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lib.html_table import html_table

CELL_LENGTH = 200  # characters of a value that a table shows


@dataclass(frozen=True, slots=True)
class MemoryItem:
    """One memory as it was when it was read. Changing `value` changes this copy only; `put` stores it."""

    user_id: str
    namespace: str
    key: str
    value: dict[str, Any]  # the JSON object
    created_at: datetime  # aware, UTC; kept when the memory is updated
    updated_at: datetime  # aware, UTC
    expires_at: datetime | None = None  # aware, UTC; from then on it is not found

    def _repr_html_(self) -> str:
        return MemoryList([self])._repr_html_()


class MemoryList(list[MemoryItem]):
    """A list of memories. In a notebook it shows as a table; `pandas.DataFrame(items)` works too."""

    def __repr__(self) -> str:
        if not self:
            return "no memories"
        return "\n".join(f"{_when(m.updated_at)}  {m.namespace} / {m.key}: {_short(m.value)}" for m in self)

    def _repr_html_(self) -> str:
        if not self:
            return "<em>no memories</em>"
        columns = ("namespace", "key", "value", "updated_at (UTC)")
        rows = [(m.namespace, m.key, _short(m.value), _when(m.updated_at)) for m in self]
        return html_table(columns, rows)


@dataclass(frozen=True, slots=True)
class ArchivedItem(MemoryItem):
    """One memory of the archive, with when and why it went there."""

    archived_at: datetime | None = None  # aware, UTC
    reason: str = ""

    def _repr_html_(self) -> str:
        return ArchivedList([self])._repr_html_()


class ArchivedList(MemoryList):
    """Memories of the archive. In a notebook it shows as a table."""

    def _repr_html_(self) -> str:
        if not self:
            return "<em>no memories</em>"
        columns = ("namespace", "key", "value", "archived_at (UTC)", "reason")
        rows = [(m.namespace, m.key, _short(m.value), _when(m.archived_at), m.reason) for m in self]
        return html_table(columns, rows)


@dataclass(frozen=True, slots=True)
class MemoryVersion:
    """A value of one memory, and how long it was the current one."""

    value: dict[str, Any]  # the JSON object
    written_at: datetime  # aware, UTC
    replaced_at: datetime | None  # aware, UTC; None for the current one

    def _repr_html_(self) -> str:
        return VersionList([self])._repr_html_()


class VersionList(list[MemoryVersion]):
    """The versions of one memory, oldest first. In a notebook it shows as a table."""

    def __repr__(self) -> str:
        if not self:
            return "no versions"
        return "\n".join(f"{_when(v.written_at)} - {_until(v.replaced_at):16}  {_short(v.value)}" for v in self)

    def _repr_html_(self) -> str:
        if not self:
            return "<em>no versions</em>"
        rows = [(_short(v.value), _when(v.written_at), _until(v.replaced_at)) for v in self]
        return html_table(("value", "written_at (UTC)", "replaced_at (UTC)"), rows)


@dataclass(frozen=True, slots=True)
class FinishedSession:
    """One conversation that is over, as it was when it was read."""

    id: str  # a UUID
    user_id: str
    started_at: datetime  # aware, UTC
    ended_at: datetime  # aware, UTC
    transcript: list[dict[str, Any]]  # dicts with turn, speaker and text
    state: str  # pending, extracting, extracted or failed
    attempts: int  # how often it was claimed
    error: str | None  # why it failed last
    summary: str | None
    details: dict[str, Any]

    def _repr_html_(self) -> str:
        return SessionList([self])._repr_html_()


class SessionList(list[FinishedSession]):
    """A list of conversations. In a notebook it shows as a table."""

    def __repr__(self) -> str:
        return "\n".join("  ".join(map(str, row)) for row in self._rows()) or "no sessions"

    def _repr_html_(self) -> str:
        if not self:
            return "<em>no sessions</em>"
        return html_table(("user_id", "ended_at (UTC)", "turns", "state", "attempts", "summary or error"), self._rows())

    def _rows(self) -> list[tuple[Any, ...]]:
        return [
            (s.user_id, _when(s.ended_at), len(s.transcript), s.state, s.attempts, s.error or s.summary or "")
            for s in self
        ]


@dataclass(frozen=True, slots=True)
class Forgotten:
    """How many rows `forget_user` deleted, by table."""

    memories: int
    sessions: int
    cached_contents: int
    versions: int = 0  # earlier values of the memories
    archived: int = 0  # memories in the archive
    jobs: int = 0  # that waited, ran or had failed


def _when(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"


def _until(moment: datetime | None) -> str:
    return "now" if moment is None else _when(moment)


def _short(value: dict[str, Any]) -> str:
    text = value["content"] if isinstance(value.get("content"), str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= CELL_LENGTH else f"{text[:CELL_LENGTH]}…"
