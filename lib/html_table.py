"""Rows as a table in a notebook."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

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
    return f'<div style="overflow-x:auto">{table}</div>'


def _table_row(tag: str, cells: Sequence[Any]) -> str:
    texts = [f'<{tag} style="text-align:left">{escape(str(cell))}</{tag}>' for cell in cells]
    return f"<tr>{''.join(texts)}</tr>"
