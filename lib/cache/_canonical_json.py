"""Any input of a key as JSON that only equal inputs share; what can't be told apart for certain is refused."""

import math
import unicodedata
from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import Any, NoReturn

import rfc8785

from lib.errors import InvalidInput, shown

MAX_DEPTH = 100  # levels of nesting; far below Python's recursion limit, far above any prompt
MAX_EXACT_INTEGER = 2**53 - 1  # JSON's numbers are doubles: beyond it, two neighbours may be one number
MAX_PATH_SHOWN = 100  # characters of a path that a message repeats
_REMEDY = (
    "Use texts, numbers, lists and dicts: of a set unordered([…]), of a generator list(…), of an Enum its .value, of "
    'an array .tolist(), of a dataclass dataclasses.asdict(…), of a model .model_dump(mode="json"), of others str(…).'
)
Path = tuple[str, ...]  # where a part stands, such as ("params", ".tools", "[0]"); as long as it is deep


class unordered:
    """A list whose order doesn't matter, such as documents that are searched; how often each occurs does.

    >>> from lib import content_hash
    >>> content_hash(unordered(["a", "b"])) == content_hash(unordered(["b", "a"]))
    True
    """

    def __init__(self, items: Iterable[Any]):
        if isinstance(items, str | bytes | dict) or not isinstance(items, Iterable):
            raise InvalidInput(f"unordered needs a list, not {shown(items)}. Write unordered([…]).")
        self.items = list(items)


def canonical_dict(part: dict[Any, Any], path: Path) -> dict[str, Any]:
    """Return the dict with keys and values in canonical form. Errors: InvalidInput, with the path."""
    copy: dict[str, Any] = {}
    for key, value in part.items():
        if not isinstance(key, str):
            _refuse(
                path,
                f"has the key {shown(key)}, a {type(key).__name__}; keys are texts, because 1 and '1' would be one in "
                f"JSON. Use {shown(str(key))}, or a list of pairs.",
            )
        normal = _text(key, path)
        # Ours begin with one $ and a letter; what a caller names so gets a second one, and can't be taken for ours.
        normal = f"${normal}" if normal.startswith("$") else normal
        if normal in copy:
            _refuse(path, f"has two keys that are one in Unicode's NFC: {shown(key)}. Rename one.")
        copy[normal] = _canonical(value, (*path, f".{str.__str__(key)}"))
    return copy


def canonical_list(items: Iterable[Any], path: Path) -> list[Any]:
    """Return the items in canonical form. Errors: InvalidInput, with the path."""
    return [_canonical(item, (*path, f"[{number}]")) for number, item in enumerate(items)]


def _canonical(part: Any, path: Path) -> Any:
    """The part in JSON that only equal parts share. A dict with a key such as "$int" is ours."""
    if part is None or isinstance(part, bool):
        return part
    if isinstance(part, str):
        return _text(part, path)
    if isinstance(part, int):
        return _integer(int(part))
    if isinstance(part, float):
        if not math.isfinite(part):
            _refuse(path, f"is {float(part)!r}, which JSON has no word for. Use None, or leave it out.")
        return _integer(int(part)) if part.is_integer() else float(part)
    if len(path) > MAX_DEPTH:
        _refuse(path, f"is nested more than {MAX_DEPTH} levels deep, or contains itself. Make it flatter.")
    if isinstance(part, dict):
        return canonical_dict(part, path)
    if isinstance(part, list | tuple):
        return canonical_list(part, path)
    if isinstance(part, unordered):
        return {"$unordered": sorted(canonical_list(part.items, path), key=rfc8785.dumps)}
    if isinstance(part, bytes | bytearray | memoryview):
        return {"$bytes": bytes(part).hex()}
    if isinstance(part, datetime):
        return {"$time": _instant(part, path)}
    if isinstance(part, date):
        return {"$date": part.isoformat()}
    _refuse(path, f"is a {type(part).__name__}, which has no fixed form as text: {shown(part)}. {_REMEDY}")


def _text(text: str, path: Path) -> str:
    text = str.__str__(text)  # of a subclass: what it holds, not what it says of itself
    if text.isascii():
        return text
    text = unicodedata.normalize("NFC", text)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        _refuse(
            path,
            f"holds half of a character (a lone surrogate, at position {error.start}): {shown(text)}. It was probably "
            "cut in the middle of an emoji; cut before or after it.",
        )
    return text


def _integer(number: int) -> Any:
    return number if abs(number) <= MAX_EXACT_INTEGER else {"$int": hex(number)}


def _instant(moment: datetime, path: Path) -> str:
    if getattr(moment, "nanosecond", 0):  # of pandas: parts of a microsecond would be left out; of NaT it is NaN
        _refuse(path, f"is {moment!r}, which a datetime can't hold. Use its .to_pydatetime(), or its .isoformat().")
    if moment.utcoffset() is None:
        _refuse(
            path,
            f"has no time zone, so it could be any of 24 hours: {moment.isoformat()}. Use datetime.now(UTC), or "
            "value.replace(tzinfo=UTC) if it is in UTC already.",
        )
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def _refuse(path: Path, problem: str) -> NoReturn:
    raise InvalidInput(f"{''.join(path)[:MAX_PATH_SHOWN]} {problem}")
