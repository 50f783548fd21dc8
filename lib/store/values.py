"""What a memory's value may be, and how its text is made searchable."""

import json
import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from lib.errors import InvalidInput, shown
from lib.text_terms import fold

MAX_DEPTH = 100  # levels of nesting; SQLite's JSON functions end at 1,000, Python's at the recursion limit
MAX_BYTES = 10_000_000  # of JSON text, in one value

# The value is a tree of our own making by then: nothing circular, nothing that isn't JSON.
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False, check_circular=False).encode


def prepare(value: Any) -> tuple[dict[str, Any], str, str]:
    """A value as it is stored: (a copy in canonical order, its JSON text, its folded search text).

    The copy's keys are in the order that PostgreSQL's JSONB keeps them in (shorter first), so that a value
    looks the same from both databases. For the same reason a float that is a whole number of 1e16 or more
    becomes an int, and -0.0 becomes 0.0: JSONB would return them so.

    Errors: InvalidInput, with the path of the part that can't be stored.

    >>> prepare({"topics": ["S3"], "type": "semantic"})
    ({'type': 'semantic', 'topics': ['S3']}, '{"type":"semantic","topics":["S3"]}', 'semantic\\ns3')
    """
    if not isinstance(value, dict):
        raise InvalidInput(
            f"a memory's value must be a dict (a JSON object), not {type(value).__name__}: {shown(value)}. "
            'Wrap it: {"content": …}.'
        )
    texts: list[str] = []
    try:
        canonical = _canonical(value, 1, texts)
    except _Refused as refused:
        raise InvalidInput(refused.message.format(place=refused.place())) from None
    as_json = _encode(canonical)
    if len(as_json) > MAX_BYTES // 4 and (size := len(as_json.encode())) > MAX_BYTES:
        raise InvalidInput(
            f"this value is {size:,} bytes of JSON; the limit is {MAX_BYTES:,}. "
            "Store the document elsewhere and remember where it is."
        )
    return canonical, as_json, _search_text(texts)


def check_text(text: str, where: str) -> str:
    """The text, if both databases can store it; else InvalidInput naming `where`."""
    if problem := _unstorable(text):
        raise InvalidInput(problem.format(place=where))
    return text


def _unstorable(text: str) -> str | None:
    """What is wrong with a text, with {place} for where it was found; None if both databases can store it."""
    if "\x00" in text:
        return f"{{place}} holds a NUL character (\\x00), which PostgreSQL can't store: {_quoted(text)}. Remove it."
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            return (
                f"{{place}} holds half of a character (a lone surrogate, at position {error.start}): {_quoted(text)}. "
                "It was probably cut in the middle of an emoji; cut before or after it."
            )
    return None


class _Refused(Exception):
    """A part that can't be stored. Its path is put together on the way out: good values never pay for it."""

    def __init__(self, message: str):
        self.message = message  # {place} stands for the path
        self.path: list[str] = []  # innermost first

    def place(self) -> str:
        path = "value" + "".join(reversed(self.path))
        return path if len(path) <= 100 else f"{path[:100]}…"  # keys may be as long as texts


def _canonical(part: Any, depth: int, texts: list[str]) -> Any:
    """A copy of one part of a value in canonical form; its texts and numbers are appended to `texts`."""
    if isinstance(part, str):
        if ("\x00" in part or not part.isascii()) and (problem := _unstorable(part)):
            raise _Refused(problem)
        texts.append(part)
        return part if type(part) is str else str(part)
    if part is None or isinstance(part, bool):
        return part
    if isinstance(part, int):
        return _checked_int(int(part), texts)
    if isinstance(part, float):
        if not math.isfinite(part):
            raise _Refused(f"{{place}} is {part!r}, which JSON has no word for. Use None, or leave it out.")
        part = float(part) + 0.0  # -0.0 + 0.0 is 0.0
        if abs(part) >= 1e16:  # every float this large is a whole number
            return _checked_int(int(part), texts)
        texts.append(repr(part))
        return part
    if depth > MAX_DEPTH:
        raise _Refused(f"the value is nested more than {MAX_DEPTH} levels deep (at {{place}}). Make it flatter.")
    if isinstance(part, dict):
        copy = {}
        for key in _ordered(part):
            try:
                copy[key] = _canonical(part[key], depth + 1, texts)
            except _Refused as refused:
                refused.path.append(f".{key}")
                raise
        return copy
    if isinstance(part, list | tuple):
        items = []
        for item in part:
            try:
                items.append(_canonical(item, depth + 1, texts))
            except _Refused as refused:
                refused.path.append(f"[{len(items)}]")
                raise
        return items
    remedy = "Use .isoformat()." if isinstance(part, datetime) else "Use texts, numbers, lists and dicts."
    raise _Refused(f"{{place}} is a {type(part).__name__}, which JSON can't hold: {_quoted(part)}. {remedy}")


def _ordered(part: dict[Any, Any]) -> list[str]:
    """The keys as JSONB orders them: by their length in bytes, then by their bytes."""
    for key in part:
        if type(key) is str and key.isascii() and "\x00" not in key:
            continue
        if not isinstance(key, str):
            remedy = f"Use {_quoted(str(key))}." if len(shown(key)) < 20 else "Use a text."
            raise _Refused(
                f"{{place}} has the key {_quoted(key)}, a {type(key).__name__}; JSON keys are texts. {remedy}"
            )
        if problem := _unstorable(key):
            raise _Refused(problem.replace("{place}", "a key of {place}", 1))
    keys = sorted(map(str, part))
    if "".join(keys).isascii():
        keys.sort(key=len)
    else:
        keys.sort(key=lambda key: (len(raw := key.encode()), raw))
    return keys


def _checked_int(number: int, texts: list[str]) -> int:
    if abs(number) >= 10**400:  # beyond any float; and Python refuses to print ints of 4,300 digits
        raise _Refused("{place} is a number of more than 400 digits. Store it as a text.")
    texts.append(str(number))
    return number


def _search_text(texts: list[str]) -> str:
    """The folded texts, one a line: a term can't match across two, because folding leaves no line breaks."""
    lines = "\n".join(texts).lower()
    words = " ".join(lines.split())
    if lines.isascii() and words == lines.replace("\n", " ") and lines.count("\n") == len(texts) - 1:
        return lines  # the usual case, and a quarter of the time: nothing but upper case was there to fold
    return "\n".join(filter(None, map(fold, texts)))


def _quoted(part: object) -> str:
    """`shown`, for a message that is a template: its braces doubled."""
    return shown(part).replace("{", "{{").replace("}", "}}")


def topics_of(value: Mapping[str, Any]) -> list[str]:
    """The texts in a value's "topics": of a list those in it, a single text by itself; of anything else none.

    >>> topics_of({"topics": ["S3", 7]}), topics_of({"topics": "S3"}), topics_of({"topics": None}), topics_of({})
    (['S3'], ['S3'], [], [])
    """
    topics = value.get("topics")
    listed = topics if isinstance(topics, list) else [topics]
    return [topic for topic in listed if isinstance(topic, str)]
