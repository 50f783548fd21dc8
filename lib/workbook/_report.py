"""What the pre-flight check found: a row for each thing, as a table."""

import textwrap
from dataclasses import astuple, dataclass

from lib.html_table import html_table

OK, LOOK, FAIL = "ok", "look", "FAIL"  # look: every chapter runs, but something is worth knowing
REPORT_COLUMNS = 110  # characters of a line of the printed report


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that was looked at."""

    what: str
    found: str
    status: str  # "ok", "look" (the chapters run all the same) or "FAIL" (a chapter can't run)
    remedy: str = ""  # what to do about it; empty when all is well


class Report(list[Row]):
    """A list of rows. In a notebook it shows as a table, elsewhere as text."""

    @property
    def passed(self) -> bool:
        """Whether every chapter can run."""
        return all(row.status != FAIL for row in self)

    def __repr__(self) -> str:
        width = max((len(row.what) for row in self), default=0)
        wrapper = textwrap.TextWrapper(
            REPORT_COLUMNS, subsequent_indent=" " * (width + 8), break_long_words=False, break_on_hyphens=False
        )
        texts = [
            f"{row.status:<4}  {row.what:<{width}}  {row.found}" + f" Remedy: {row.remedy}" * bool(row.remedy)
            for row in self
        ]
        return "\n".join(map(wrapper.fill, texts))

    def _repr_html_(self) -> str:
        return html_table(("what", "found", "status", "remedy"), map(astuple, self))
