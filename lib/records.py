"""Rows as a table in a notebook, and lists of records that show as one."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any, ClassVar, Self, SupportsIndex, TypeVar, overload

Record = TypeVar("Record")

# The text's colour is the front end's own, so that it can be read in a light and in a dark theme; a wide table scrolls,
# and no word is broken to make it fit.
_TABLE = "table-layout:auto;overflow-wrap:normal;word-break:normal;color:var(--jp-content-font-color1,inherit)"


def html_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return rows as an HTML table, all text escaped (a memory may hold HTML), left-aligned.

    >>> html_table(("user",), [("<b>",)]).partition("<tbody>")[2]
    '<tr><td style="text-align:left">&lt;b&gt;</td></tr></tbody></table></div>'
    """
    head, *body = [_table_row(tag, cells) for tag, cells in [("th", columns), *(("td", row) for row in rows)]]
    table = f'<table style="{_TABLE}"><thead>{head}</thead><tbody>{"".join(body)}</tbody></table>'
    # The line ends there, because JupyterLab shows the first one of an output that is folded away.
    return f'<div style="overflow-x:auto">\n{table}</div>'


def _table_row(tag: str, cells: Sequence[Any]) -> str:
    texts = [f'<{tag} style="text-align:left">{escape(str(cell))}</{tag}>' for cell in cells]
    return f"<tr>{''.join(texts)}</tr>"


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
