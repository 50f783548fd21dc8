"""What a text says by its words: their stems, and the times that it names. Pure functions."""

import re
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from lib.values import fold

_STOP = """
    a about after again all also am an and any anything are as at be because been before being between but by can
    could d did do does doing done during each else ever every few for from further get gets got had has have having
    he her here hers him his how i if in into is it its itself just know let like ll m many me might mine more most
    much must my need no nor not now of off on once only or other our ours out over own please re really s same say
    shall she should so some such t tell than that the their theirs them then there these they thing things this
    those through to too under until up us use used user very ve want was we were what when where which while who
    whom whose why will with would yet you your yours
"""
STOP_WORDS = frozenset(_STOP.split())
# \w leaves out the marks that stand for vowels in Thai, Hindi and their like: words would fall to pieces at each.
_MARKS = "".join(mark for code in range(0x0300, 0x1D00) if unicodedata.category(mark := chr(code)).startswith("M"))
_WORD = re.compile(rf"[\w{_MARKS}]+")
# Scripts that are written without spaces: their words are found by pairs of letters.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+")
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


@lru_cache(maxsize=1)
def _stemmer() -> Callable[[str], str]:
    import snowballstemmer  # not at the top: `import lib` should stay cheap

    return snowballstemmer.stemmer("english").stemWord


@lru_cache(maxsize=50_000)
def stem(word: str) -> str:
    """The stem of a folded English word (Snowball); words of other languages stay nearly as they are.

    >>> stem("studying"), stem("studies")
    ('studi', 'studi')
    """
    return _stemmer()(word)


def words(text: str) -> list[str]:
    """The words of a text, folded (no case, no accents), in order.

    Japanese, Chinese and Thai don't part their words: there, each pair of neighbouring letters counts as one.

    >>> words("Zoë's exam: 東京都")
    ['zoe', 's', 'exam', '東京', '京都']
    """
    found = []
    for word in _WORD.findall(fold(text)):
        if word.isascii() or not _UNSPACED.search(word):
            found.append(word)
        else:
            for run in re.findall(rf"{_UNSPACED.pattern}|[^{_UNSPACED.pattern[1:-2]}]+", word):
                pairs = [run[i : i + 2] for i in range(len(run) - 1)] if _UNSPACED.match(run) else []
                found += pairs or [run]
    return found


def stems(text: str) -> list[str]:
    """The stems of the words that carry the content of a text, in order, repeated as they are.

    >>> stems("When is the exam? I'm studying for the exams")
    ['exam', 'studi', 'exam']
    """
    return [stem(word) for word in words(text) if word not in STOP_WORDS]


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
