"""Rows as a table in a notebook."""

from html import escape
from typing import Any


def html_table(columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    """Rows as an HTML table, all text escaped (a memory may hold HTML), left-aligned."""
    style = ' style="text-align:left"'
    head = "".join(f"<th{style}>{escape(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(f"<td{style}>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
