"""What the store hands out: plain, frozen records that show as tables in a notebook."""

import json
from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import Any

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
class Forgotten:
    """How many rows `forget_user` deleted, by table."""

    memories: int
    sessions: int
    cached_contents: int


def html_table(columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    """Rows as an HTML table, all text escaped (a memory may hold HTML), left-aligned."""
    style = ' style="text-align:left"'
    head = "".join(f"<th{style}>{escape(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(f"<td{style}>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _when(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"


def _short(value: dict[str, Any]) -> str:
    text = value["content"] if isinstance(value.get("content"), str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= CELL_LENGTH else f"{text[:CELL_LENGTH]}…"
