"""Inputs of keys, made by chance; for the tests of lib.cache.cache_key, and for its benchmark."""

import random
from typing import Any

from lib.cache._canonical_json import unordered
from lib.cache.cache_key import content_hash

SCALARS = (None, True, False, 0, 1, -1, 2, 0.5, "", "a", "b", "ab", "1", "é", "null", "[]")
KEYS = ("a", "b", "ab", "A", "null", "é", "")


def assert_all_different(chance: random.Random, count: int) -> None:
    """Inputs are compared by a rendering of our own, which keeps types apart in another way than content_hash does."""
    seen: dict[str, str] = {}
    for _ in range(count):
        value = any_value(chance, 3)
        key, meaning = content_hash(value), rendering(value)
        assert seen.setdefault(key, meaning) == meaning, f"{meaning} and {seen[key]} share a key"
    assert len(seen) == len(set(seen.values())) > count / 4


def any_value(chance: random.Random, depth: int) -> Any:
    choice = chance.random()
    if depth == 0 or choice < 0.3:
        return chance.choice(SCALARS) if chance.random() < 0.5 else chance.randrange(10**6)
    values = [any_value(chance, depth - 1) for _ in range(chance.randrange(4))]
    if choice < 0.6:
        return values
    if choice < 0.7:
        return unordered(values)
    return dict(zip(chance.sample(KEYS, len(values)), values, strict=True))


def rendering(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(rendering, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(sorted(f'{key!r}: {rendering(one)}' for key, one in value.items()))}}}"
    return repr(value)
