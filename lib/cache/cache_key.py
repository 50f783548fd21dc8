"""One key for everything that an output was made from: equal inputs share it, different ones don't."""

import hashlib
from typing import Any

import rfc8785

from lib.cache._canonical_json import canonical
from lib.errors import InvalidInput

_RULES = 2  # in every key: should the rules change, old keys aren't found any more, rather than wrongly


def content_hash(*parts: Any, **params: Any) -> str:
    """SHA-256 over all that an output depends on, as 64 hexadecimal digits: the key of `ContentCache`.

    parts, params: None, bool, int, float, text, date, datetime; lists, tuples and dicts of these.
    Give it everything that changes the answer: model, temperature, system prompt, tools, schema, version of the prompt.

    - The order of parts and lists counts, unless a list is `unordered`; that of dicts and params doesn't.
    - Types stay apart: 1, True and "1" are three keys. But 1 and 1.0 are one number, as in JSON; a tuple is a list, a
      member of a StrEnum is its text, and a date or a time is that of its ISO format.
    - A letter followed by an accent is the accented letter (Unicode's NFC). Case and spaces count.

    Errors: InvalidInput, with the path of what can't be told apart for certain: NaN, a set, an object.

    >>> len(content_hash("Explain S3 to a beginner.", model="practice-model", temperature=0))
    64
    >>> content_hash("ab", "c") == content_hash("a", "bc")
    False
    >>> content_hash({"a": 1, "b": 2}) == content_hash({"b": 2.0, "a": 1})
    True
    """
    if not parts and not params:
        raise InvalidInput("content_hash was given nothing, so every call would have one key. Give it the inputs.")
    # Two lists and no names of parts: so a part can't be taken for a parameter, nor ("a", "b") for (["a", "b"],).
    inputs = [_RULES, canonical(parts, ("parts",)), canonical(params, ("params",))]
    return hashlib.sha256(rfc8785.dumps(inputs)).hexdigest()
