"""Rows as a table in a notebook, and lists of records that show as one."""

from collections.abc import Iterable
from html import escape
from typing import Any, ClassVar, Self, SupportsIndex, TypeVar, overload

Record = TypeVar("Record")


def html_table(columns: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> str:
    """Rows as an HTML table, all text escaped (a memory may hold HTML), left-aligned."""
    style = ' style="text-align:left"'
    head = "".join(f"<th{style}>{escape(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(f"<td{style}>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


class RecordList(list[Record]):
    """A list of records that shows as a table in a notebook, and so does a slice of it.

    A subclass names its columns, what it says when it is empty, and the cells of one record's row.
    """

    columns: ClassVar[tuple[str, ...]]
    nothing: ClassVar[str]

    @staticmethod
    def row(record: Any) -> tuple[Any, ...]:
        """The cells of one record, as many as there are columns."""
        raise NotImplementedError

    @classmethod
    def line(cls, record: Any) -> str:
        """One record as plain text."""
        return "  ".join(map(str, cls.row(record)))

    @overload
    def __getitem__(self, index: SupportsIndex) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: SupportsIndex | slice) -> Record | Self:
        if isinstance(index, slice):
            return type(self)(super().__getitem__(index))
        return super().__getitem__(index)

    def __repr__(self) -> str:
        return "\n".join(map(self.line, self)) or self.nothing

    def _repr_html_(self) -> str:
        return html_table(self.columns, map(self.row, self)) if self else f"<em>{self.nothing}</em>"
