"""Trials: what the chapters measure, each too long for a cell."""

from typing import Any

from lib.html_table import html_table


class Results(list[Any]):
    """What was tried, one after another, each with a `row()`. In a notebook they show as a table."""

    def rows(self) -> list[dict[str, Any]]:
        """Return a dict for each, for pandas or a plot."""
        return [result.row() for result in self]

    def __repr__(self) -> str:
        return "\n".join(map(str, self.rows()))

    def _repr_html_(self) -> str:
        rows = self.rows()
        return html_table(tuple(rows[0]), [tuple(row.values()) for row in rows]) if rows else "<em>nothing yet</em>"
