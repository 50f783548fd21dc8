"""One key for everything that an output was made from: equal inputs share it, different ones don't."""

import hashlib
import math
import unicodedata
from collections.abc import Iterable
from datetime import UTC, date, datetime
from enum import Enum
from typing import Any

import rfc8785

from lib.errors import InvalidInput, shown

MAX_DEPTH = 100  # levels of nesting; far below Python's recursion limit, far above any prompt
EXACT_INTEGERS = 2**53 - 1  # JSON's numbers are doubles: beyond it, two neighbours may be one number
_RULES = 1  # in every key: should the rules below change, old keys aren't found any more, rather than wrongly
_REMEDIES = {
    "set": "A set has no order: use unordered([…]).",
    "frozenset": "A set has no order: use unordered([…]).",
    "generator": "It could be read only once: use list(…).",
    "Decimal": "Use str(…), or float(…) if its digits may be rounded.",
    "UUID": "Use str(…).",
}


class unordered:
    """A list whose order doesn't matter, such as documents that are searched; how often each occurs does.

    >>> content_hash(unordered(["a", "b"])) == content_hash(unordered(["b", "a"]))
    True
    """

    def __init__(self, items: Iterable[Any]):
        if isinstance(items, str | bytes | dict) or not isinstance(items, Iterable):
            raise InvalidInput(f"unordered needs a list, not {shown(items)}. Write unordered([…]).")
        self.items = list(items)

    def __repr__(self) -> str:
        return f"unordered({self.items!r})"


def content_hash(*parts: Any, **params: Any) -> str:
    """SHA-256 over all that an output depends on, as 64 hexadecimal digits: the key of `ContentCache`.

    parts, params: None, bool, int, float, text, bytes, date, aware datetime; lists, tuples and dicts of these.
    Give it everything that changes the answer: model, temperature, system prompt, tools, schema, version of the prompt.

    - The order of parts and lists counts, unless a list is `unordered`; that of dicts and params doesn't.
    - Types stay apart: 1, True and "1" are three keys. But 1 and 1.0 are one number, as in JSON; a tuple is a list, an
      instant is the same in every time zone, and a member of a StrEnum is its text.
    - A letter followed by an accent is the accented letter (Unicode's NFC). Case and spaces count.

    Errors: InvalidInput, with the path of what can't be told apart for certain: NaN, a set, a time without a zone, an
    object.

    >>> len(content_hash("Explain S3 to a beginner.", model="practice-model", temperature=0))
    64
    >>> content_hash("ab", "c") == content_hash("a", "bc")
    False
    >>> content_hash({"a": 1, "b": 2}) == content_hash({"b": 2.0, "a": 1})
    True
    """
    if not parts and not params:
        raise InvalidInput("content_hash was given nothing, so every call would have one key. Give it the inputs.")
    try:
        # Two lists and no names of parts: so a part can't be taken for a parameter, nor ("a", "b") for (["a", "b"],).
        whole = [_RULES, _list(parts, "parts", 1), _dict(params, "params", 1)]
    except _Refused as refused:
        raise InvalidInput(refused.message.replace("{place}", refused.place(), 1)) from None
    return hashlib.sha256(rfc8785.dumps(whole)).hexdigest()


class _Refused(Exception):
    """A part that has no canonical form. Its path is put together on the way out: good values never pay for it."""

    def __init__(self, message: str):
        self.message = message  # {place} stands for the path
        self.path: list[str] = []  # innermost first

    def place(self) -> str:
        path = "".join(reversed(self.path))
        return path if len(path) <= 100 else f"{path[:100]}…"


def _canonical(part: Any, depth: int) -> Any:
    """The part in JSON that only equal parts share. A dict with a key such as "$int" is ours: see `_dict`."""
    if part is None or isinstance(part, bool):
        return part
    if isinstance(part, str):
        return _text(part)
    if isinstance(part, int):
        return _integer(int(part))
    if isinstance(part, float):
        return _number(float(part))
    if depth > MAX_DEPTH:
        raise _Refused(f"{{place}} is nested more than {MAX_DEPTH} levels deep, or contains itself. Make it flatter.")
    if isinstance(part, dict):
        return _dict(part, "", depth)
    if isinstance(part, list | tuple):
        return _list(part, "", depth)
    if isinstance(part, unordered):
        return {"$unordered": sorted(_list(part.items, "", depth), key=rfc8785.dumps)}
    if isinstance(part, bytes | bytearray | memoryview):
        return {"$bytes": bytes(part).hex()}
    if isinstance(part, datetime):
        return {"$time": _instant(part)}
    if isinstance(part, date):
        return {"$date": part.isoformat()}
    raise _Refused(
        f"{{place}} is a {type(part).__name__}, which has no fixed form as text: {shown(part)}. {_way(part)}"
    )


def _dict(part: dict[Any, Any], name: str, depth: int) -> dict[str, Any]:
    copy: dict[str, Any] = {}
    for key, value in part.items():
        try:
            if not isinstance(key, str):
                raise _Refused(
                    f"{{place}} has the key {shown(key)}, a {type(key).__name__}; keys are texts, because 1 and '1' "
                    f"would be one in JSON. Use {shown(str(key))}, or a list of pairs."
                )
            normal = _text(key)
            # Ours begin with one $ and a letter; what a caller names so gets a second one, and can't be taken for ours.
            normal = f"${normal}" if normal.startswith("$") else normal
            if normal in copy:
                raise _Refused(f"{{place}} has two keys that are one in Unicode's NFC: {shown(key)}. Rename one.")
        except _Refused as refused:
            refused.path.append(name)
            raise
        try:
            copy[normal] = _canonical(value, depth + 1)
        except _Refused as refused:
            refused.path.extend((f".{str.__str__(key)}", name))
            raise
    return copy


def _list(part: Iterable[Any], name: str, depth: int) -> list[Any]:
    copy: list[Any] = []
    for item in part:
        try:
            copy.append(_canonical(item, depth + 1))
        except _Refused as refused:
            refused.path.extend((f"[{len(copy)}]", name))
            raise
    return copy


def _text(text: str) -> str:
    text = str.__str__(text)  # of a subclass: what it holds, not what it says of itself
    if text.isascii():
        return text
    text = unicodedata.normalize("NFC", text)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _Refused(
            f"{{place}} holds half of a character (a lone surrogate, at position {error.start}): {shown(text)}. It was "
            "probably cut in the middle of an emoji; cut before or after it."
        ) from None
    return text


def _integer(number: int) -> Any:
    return number if -EXACT_INTEGERS <= number <= EXACT_INTEGERS else {"$int": hex(number)}


def _number(number: float) -> Any:
    if not math.isfinite(number):
        raise _Refused(f"{{place}} is {number!r}, which JSON has no word for. Use None, or leave it out.")
    return _integer(int(number)) if number.is_integer() else number


def _instant(moment: datetime) -> str:
    if type(moment) is not datetime and (moment != moment or getattr(moment, "nanosecond", 0)):
        raise _Refused(  # pandas: a NaT, which is no moment, or parts of a microsecond, which would be left out
            f"{{place}} is {moment!r}, which a datetime can't hold. Use its .to_pydatetime(), or its .isoformat()."
        )
    if moment.utcoffset() is None:
        raise _Refused(
            f"{{place}} has no time zone, so it could be any of 24 hours: {moment.isoformat()}. Use datetime.now(UTC), "
            "or value.replace(tzinfo=UTC) if it is in UTC already."
        )
    try:
        return moment.astimezone(UTC).isoformat(timespec="microseconds")
    except OverflowError:
        raise _Refused(f"{{place}} is {moment.isoformat()}, which in UTC is outside of the calendar.") from None


def _way(part: Any) -> str:
    """How an object becomes something that can be hashed."""
    if isinstance(part, Enum):
        return "Use its .value."
    if hasattr(part, "model_dump"):
        return 'Use .model_dump(mode="json").'
    if hasattr(part, "__dataclass_fields__"):
        return "Use dataclasses.asdict(…)."
    if hasattr(part, "tolist"):  # NumPy's arrays, and its numbers that are none of Python's
        return "Use .tolist()."
    return _REMEDIES.get(type(part).__name__, "Use texts, numbers, lists and dicts.")
