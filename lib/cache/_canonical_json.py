"""Any input of a key as JSON that only equal inputs share; what can't be told apart for certain is refused."""

import math
import unicodedata
from collections.abc import Iterable
from datetime import date
from typing import Any

import rfc8785

from lib.errors import InvalidInput, shown

MAX_DEPTH = 100  # levels of nesting; far below Python's recursion limit, far above any prompt
MAX_EXACT_INTEGER = 2**53 - 1  # JSON's numbers are doubles: beyond it, two neighbours may be one number
MAX_PATH_SHOWN = 100  # characters of a path that a message repeats
_REMEDY = (
    "Use texts, numbers, lists and dicts: of a set unordered([…]), of a generator list(…), of an Enum its .value, of "
    "bytes .hex(), of an array .tolist(), of a dataclass dataclasses.asdict(…), of a model .model_dump(), of others "
    "str(…)."
)
Path = tuple[str, ...]  # where a part stands, such as ("params", ".tools", "[0]"); as long as it is deep


def unordered(items: Iterable[Any]) -> list[Any]:
    """Return a list whose order doesn't matter, such as documents that were found, in the one order of its keys.

    It is `sorted`, for all that a key is made from. How often each occurs matters.

    >>> unordered(["index", {"page": 7}]) == unordered([{"page": 7}, "index"])
    True
    """
    if isinstance(items, str | bytes | dict) or not isinstance(items, Iterable):
        raise InvalidInput(f"unordered needs a list, not {shown(items)}. Write unordered([…]).")
    return sorted(items, key=lambda item: rfc8785.dumps(canonical(item, ("unordered",))))


def canonical(part: Any, path: Path) -> Any:
    """Return the part in JSON that only equal parts share. Errors: InvalidInput, with the path."""
    if part is None or isinstance(part, bool):
        return part
    if isinstance(part, str):
        return _text(part, path)
    if isinstance(part, int):
        if abs(part) > MAX_EXACT_INTEGER:
            raise _refused(path, f"is {shown(part)}, beyond 2**53 - 1, which JSON isn't exact for. Use str(…).")
        return int(part)
    if isinstance(part, float):
        if not math.isfinite(part):
            raise _refused(path, f"is {float(part)!r}, which JSON has no word for. Use None, or leave it out.")
        return float(part)
    if isinstance(part, date):  # or a datetime
        return part.isoformat()
    if len(path) > MAX_DEPTH:
        raise _refused(path, f"is nested more than {MAX_DEPTH} levels deep, or contains itself. Make it flatter.")
    if isinstance(part, dict):
        return _canonical_dict(part, path)
    if isinstance(part, list | tuple):
        return [canonical(item, (*path, f"[{number}]")) for number, item in enumerate(part)]
    raise _refused(path, f"is a {type(part).__name__}, which has no fixed form as text: {shown(part)}. {_REMEDY}")


def _canonical_dict(part: dict[Any, Any], path: Path) -> dict[str, Any]:
    copy: dict[str, Any] = {}
    for key, value in part.items():
        if not isinstance(key, str):
            raise _refused(
                path,
                f"has the key {shown(key)}, a {type(key).__name__}; keys are texts, because 1 and '1' would be one in "
                f"JSON. Use {shown(str(key))}, or a list of pairs.",
            )
        normal = _text(key, path)
        if normal in copy:
            raise _refused(path, f"has two keys that are one in Unicode's NFC: {shown(key)}. Rename one.")
        copy[normal] = canonical(value, (*path, f".{normal}"))
    return copy


def _text(text: str, path: Path) -> str:
    text = unicodedata.normalize("NFC", str.__str__(text))  # of a subclass: what it holds, not what it says of itself
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _refused(
            path,
            f"holds half of a character (a lone surrogate, at position {error.start}): {shown(text)}. It was probably "
            "cut in the middle of an emoji; cut before or after it.",
        ) from None
    return text


def _refused(path: Path, problem: str) -> InvalidInput:
    return InvalidInput(f"{''.join(path)[:MAX_PATH_SHOWN]} {problem}")
