"""The times that a question names: "in early March", "on 3 June". A pure function."""

import re
from datetime import UTC, datetime, timedelta

_MONTHS = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip
_MONTH = "|".join(f"{month}|{month[:3]}" if month != "may" else month for month in _MONTHS)
_DATE = re.compile(
    rf"\b(?:(?P<part>early|mid|late|beginning of|middle of|end of)[\s-]+)?"
    rf"(?:(?P<day>\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?)?\b(?P<month>{_MONTH})\b\.?"
    rf"(?:\s+(?P<day_after>\d{{1,2}})(?:st|nd|rd|th)?\b)?(?:,?\s+(?P<year>(?:19|20)\d\d)\b)?",
    re.IGNORECASE,
)
_BEFORE_MONTH = re.compile(r"\b(in|during|since|of|last|this|on|from|until|by|around)[\s-]*$", re.IGNORECASE)
# Days of a month that a part of it means, from and before.
_PARTS = {"early": (1, 12), "beginning of": (1, 12), "mid": (9, 22), "middle of": (9, 22), "late": (19, 32)}
_PARTS["end of"] = _PARTS["late"]


def times_named(text: str, now: datetime) -> list[tuple[datetime, datetime]]:
    """The spans of time that a question names by month or date: (from, before), in UTC.

    now: a month without a year is the last one that has begun by then.

    >>> [(start, end)] = times_named("What did I struggle with in early March?", datetime(2026, 9, 1, tzinfo=UTC))
    >>> f"{start:%d %b %Y}, {end:%d %b %Y}"
    '01 Mar 2026, 12 Mar 2026'
    """
    spans = []
    for found in _DATE.finditer(text):
        name, day = found["month"], found["day"] or found["day_after"]
        # "may" is a verb and "mar" a part of names: without a day or a year, a month needs a word before it.
        before = text[max(0, found.start() - 20) : found.start()]  # not all: that would take the text's length squared
        if not (day or found["year"] or found["part"] or _BEFORE_MONTH.search(before)):
            continue
        month = next(number for number, full in enumerate(_MONTHS, 1) if full.startswith(name.lower()))
        year = int(found["year"]) if found["year"] else now.year - ((month, 1) > (now.month, now.day))
        try:
            spans.append(_span(year, month, int(day) if day else None, (found["part"] or "").lower()))
        except ValueError:  # 31 June
            continue
    return spans


def _span(year: int, month: int, day: int | None, part: str) -> tuple[datetime, datetime]:
    start = datetime(year, month, 1, tzinfo=UTC)
    after = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
    if day:
        return start.replace(day=day), start.replace(day=day) + timedelta(days=1)
    if part:
        first, last = _PARTS[part]
        return start.replace(day=first), min(after, start + timedelta(days=last - 1))
    return start, after
