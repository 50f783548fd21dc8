"""What a memory's value may be, and how its text is made searchable."""

import json
import math
import unicodedata
from datetime import datetime
from typing import Any

from lib.errors import InvalidInput, shown

MAX_DEPTH = 100  # levels of nesting; SQLite's JSON functions end at 1,000, Python's at the recursion limit
MAX_BYTES = 10_000_000  # of JSON text, in one value

# Letters that a reader takes for a plain letter with an accent, but that Unicode doesn't take apart.
_PLAIN = str.maketrans(
    {"ł": "l", "ø": "o", "đ": "d", "ð": "d", "ħ": "h", "ŧ": "t", "ı": "i", "æ": "ae", "œ": "oe", "þ": "th"}
)

# Marks that may be left out in writing: accents on Latin, Greek and Cyrillic letters, Hebrew points, Arabic
# vowels. Not *all* combining marks: in Hindi or Japanese they make another letter, and dropping them would
# find other words.
_OPTIONAL_MARKS = (
    (0x0300, 0x036F), (0x0591, 0x05C7), (0x0610, 0x061A), (0x064B, 0x065F), (0x0670, 0x0670),
    (0x1AB0, 0x1AFF), (0x1DC0, 0x1DFF),
)  # fmt: skip
_DROP_MARKS = {code: None for first, last in _OPTIONAL_MARKS for code in range(first, last + 1)}


def fold(text: str) -> str:
    """Text as it is compared in a search: without case, accents and differences of spacing.

    >>> fold("Montréal"), fold("MONTREAL"), fold("Łukasz  Straße")
    ('montreal', 'montreal', 'lukasz strasse')
    >>> fold("がく") == fold("かく")  # two different words stay two
    False
    """
    if text.isascii():
        return " ".join(text.lower().split())
    text = unicodedata.normalize("NFKD", text).casefold()
    text = unicodedata.normalize("NFKD", text).translate(_DROP_MARKS).translate(_PLAIN)
    return " ".join(unicodedata.normalize("NFC", text).split())


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
    canonical = _canonical(value, "value", 1, texts)
    as_json = json.dumps(canonical, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    size = len(as_json.encode())
    if size > MAX_BYTES:
        raise InvalidInput(
            f"this value is {size:,} bytes of JSON; the limit is {MAX_BYTES:,}. "
            "Store the document elsewhere and remember where it is."
        )
    # One leaf a line: a search term can't match across two of them, because folding leaves no line breaks.
    return canonical, as_json, "\n".join(filter(None, map(fold, texts)))


def check_text(text: str, where: str) -> str:
    """The text, if both databases can store it; else InvalidInput naming `where`."""
    if "\x00" in text:
        raise InvalidInput(
            f"{where} holds a NUL character (\\x00), which PostgreSQL can't store: {shown(text)}. Remove it."
        )
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidInput(
                f"{where} holds half of a character (a lone surrogate, at position {error.start}): {shown(text)}. "
                "It was probably cut in the middle of an emoji; cut before or after it."
            ) from None
    return text


def _canonical(part: Any, path: str, depth: int, texts: list[str]) -> Any:
    """A copy of one part of a value in canonical form; its texts and numbers are appended to `texts`."""
    if isinstance(part, str):
        texts.append(check_text(part, _place(path)))
        return str(part)
    if part is None or isinstance(part, bool):
        return part
    if isinstance(part, int):
        return _checked_int(int(part), path, texts)
    if isinstance(part, float):
        if not math.isfinite(part):
            raise InvalidInput(f"{_place(path)} is {part!r}, which JSON has no word for. Use None, or leave it out.")
        part = float(part) + 0.0  # -0.0 + 0.0 is 0.0
        if abs(part) >= 1e16:  # every float this large is a whole number
            return _checked_int(int(part), path, texts)
        texts.append(repr(part))
        return part
    if depth > MAX_DEPTH:
        raise InvalidInput(
            f"the value is nested more than {MAX_DEPTH} levels deep (at {_place(path)}). Make it flatter."
        )
    if isinstance(part, dict):
        for key in part:
            if not isinstance(key, str):
                remedy = f"Use {str(key)!r}." if len(shown(key)) < 20 else "Use a text."
                raise InvalidInput(
                    f"{_place(path)} has the key {shown(key)}, a {type(key).__name__}; JSON keys are texts. {remedy}"
                )
            check_text(key, f"a key of {_place(path)}")
        ordered = sorted(part.items(), key=lambda item: (len(raw := item[0].encode()), raw))
        return {str(key): _canonical(item, f"{path}.{key}", depth + 1, texts) for key, item in ordered}
    if isinstance(part, list | tuple):
        return [_canonical(item, f"{path}[{i}]", depth + 1, texts) for i, item in enumerate(part)]
    remedy = "Use .isoformat()." if isinstance(part, datetime) else "Use texts, numbers, lists and dicts."
    raise InvalidInput(f"{_place(path)} is a {type(part).__name__}, which JSON can't hold: {shown(part)}. {remedy}")


def _checked_int(number: int, path: str, texts: list[str]) -> int:
    if abs(number) >= 10**400:  # beyond any float; and Python refuses to print ints of 4,300 digits
        raise InvalidInput(f"{_place(path)} is a number of more than 400 digits. Store it as a text.")
    texts.append(str(number))
    return number


def _place(path: str) -> str:
    """The path of a part as a message names it; keys may be as long as texts."""
    return path if len(path) <= 100 else f"{path[:100]}…"
