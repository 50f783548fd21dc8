"""What may be stored: the names of a memory, and its value; and how the value's text is made searchable."""

import json
import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from lib.database.tables import KEY_LENGTH, NAMESPACE_LENGTH, USER_ID_LENGTH
from lib.errors import InvalidInput, shown
from lib.text_terms import fold

MAX_DEPTH = 100  # levels of nesting; SQLite's JSON functions end at 1,000, Python's at the recursion limit
MAX_BYTES = 10_000_000  # of JSON text, in one value

# The value is a tree of our own making by then: nothing circular, nothing that isn't JSON.
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False, check_circular=False).encode

_Path = tuple[str | int, ...]  # from the value to a part of it: keys, and places in lists


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
    canonical = _canonical_dict(value, (), texts)
    as_json = _encode(canonical)
    if len(as_json) > MAX_BYTES // 4 and (size := len(as_json.encode())) > MAX_BYTES:
        raise InvalidInput(
            f"this value is {size:,} bytes of JSON; the limit is {MAX_BYTES:,}. "
            "Store the document elsewhere and remember where it is."
        )
    return canonical, as_json, _search_text(texts)


def check_address(user_id: str, namespace: str, key: str) -> dict[str, str]:
    """The three names of a memory, each of which can be stored; else InvalidInput.

    >>> check_address("ada", "facts", "home")
    {'user_id': 'ada', 'namespace': 'facts', 'key': 'home'}
    """
    return {
        "user_id": check_name(user_id, "user_id", USER_ID_LENGTH),
        "namespace": check_name(namespace, "namespace", NAMESPACE_LENGTH),
        "key": check_name(key, "key", KEY_LENGTH),
    }


def check_name(text: str, name: str, longest: int) -> str:
    """A user_id, namespace or key that can be stored; else InvalidInput.

    >>> check_name("ada", "user_id", 50)
    'ada'
    """
    check_text(text, name)
    if not text.strip():
        raise InvalidInput(f"{name} must not be empty: {shown(text)}.")
    if len(text) > longest:
        raise InvalidInput(
            f"{name} has {len(text):,} characters, and {longest} is the limit: {shown(text)}. Shorten it."
        )
    return text


def check_text(text: str, name: str) -> str:
    """The text, if it is one that both databases can store; else InvalidInput with the name."""
    if not isinstance(text, str):
        raise InvalidInput(f"{name} must be a text, not {type(text).__name__}: {shown(text)}.")
    if problem := _problem(text):
        raise InvalidInput(f"{name} {problem}")
    return text


def _problem(text: str) -> str | None:
    """What is wrong with a text; None if both databases can store it."""
    if "\x00" in text:
        return f"holds a NUL character (\\x00), which PostgreSQL can't store: {shown(text)}. Remove it."
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            return (
                f"holds half of a character (a lone surrogate, at position {error.start}): {shown(text)}. "
                "It was probably cut in the middle of an emoji; cut before or after it."
            )
    return None


def _canonical(part: Any, path: _Path, texts: list[str]) -> Any:
    """A copy of one part of a value in canonical form; its texts and numbers are appended to `texts`."""
    if isinstance(part, str):
        if problem := _problem(part):
            raise _refused(path, problem)
        texts.append(part)
        return str(part)
    if part is None or isinstance(part, bool):
        return part
    if isinstance(part, int | float):
        number = _canonical_number(part, path)
        texts.append(repr(number))
        return number
    if len(path) >= MAX_DEPTH:
        raise InvalidInput(
            f"the value is nested more than {MAX_DEPTH} levels deep (at {_place(path)}). Make it flatter."
        )
    if isinstance(part, dict):
        return _canonical_dict(part, path, texts)
    if isinstance(part, list | tuple):
        return [_canonical(item, (*path, number), texts) for number, item in enumerate(part)]
    remedy = "Use .isoformat()." if isinstance(part, datetime) else "Use texts, numbers, lists and dicts."
    raise _refused(path, f"is a {type(part).__name__}, which JSON can't hold: {shown(part)}. {remedy}")


def _canonical_number(number: float, path: _Path) -> float:
    if isinstance(number, float) and not math.isfinite(number):
        raise _refused(path, f"is {number!r}, which JSON has no word for. Use None, or leave it out.")
    if isinstance(number, float) and abs(number) < 1e16:
        return float(number) + 0.0  # -0.0 + 0.0 is 0.0
    if abs(number) >= 10**400:  # beyond any float; and Python refuses to print ints of 4,300 digits
        raise _refused(path, "is a number of more than 400 digits. Store it as a text.")
    return int(number)  # every float this large is a whole number


def _canonical_dict(part: dict[Any, Any], path: _Path, texts: list[str]) -> dict[str, Any]:
    for key in part:
        if not isinstance(key, str):
            remedy = f"Use {str(key)!r}." if len(shown(key)) < 20 else "Use a text."
            raise _refused(path, f"has the key {shown(key)}, a {type(key).__name__}; JSON keys are texts. {remedy}")
        if problem := _problem(key):
            raise InvalidInput(f"a key of {_place(path)} {problem}")
    keys = sorted(map(str, part), key=lambda key: (len(raw := key.encode()), raw))  # as JSONB orders them
    return {key: _canonical(part[key], (*path, key), texts) for key in keys}


def _refused(path: _Path, problem: str) -> InvalidInput:
    return InvalidInput(f"{_place(path)} {problem}")


def _place(path: _Path) -> str:
    place = "value" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return place if len(place) <= 100 else f"{place[:100]}…"  # keys may be as long as texts


def _search_text(texts: list[str]) -> str:
    """The folded texts, one a line: a term can't match across two, because folding leaves no line breaks."""
    return "\n".join(filter(None, map(fold, texts)))


def topics_of(value: Mapping[str, Any]) -> list[str]:
    """The texts in a value's "topics": of a list those in it, a single text by itself; of anything else none.

    >>> topics_of({"topics": ["S3", 7]}), topics_of({"topics": "S3"}), topics_of({"topics": None}), topics_of({})
    (['S3'], ['S3'], [], [])
    """
    topics = value.get("topics")
    listed = topics if isinstance(topics, list) else [topics]
    return [topic for topic in listed if isinstance(topic, str)]
