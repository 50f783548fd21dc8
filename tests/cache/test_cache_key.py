"""Keys of the cache: equal inputs share one, different inputs never do, and what can't be told apart is refused."""

import json
import random
import unicodedata
from collections import Counter, OrderedDict, namedtuple
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from key_inputs import assert_all_different

from lib.cache._canonical_json import unordered
from lib.cache.cache_key import content_hash
from lib.errors import InvalidInput

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
GENERATED = 20_000  # of the benchmark: 100,000


class Level(StrEnum):
    BEGINNER = "beginner"


class Number(IntEnum):
    ONE = 1


class Plain(Enum):
    A = "a"


@dataclass
class Point:
    x: int


Pair = namedtuple("Pair", "a b")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (0.0, -0.0),
        (2**53 - 1, float(2**53 - 1)),
        ("caf\u00e9", "cafe\u0301"),
        ({"caf\u00e9": 1}, {"cafe\u0301": 1}),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (OrderedDict(b=1, a=2), {"a": 2, "b": 1}),
        (Counter("aab"), {"a": 2, "b": 1}),
        ((1, 2), [1, 2]),
        (Pair(1, 2), [1, 2]),
        (NOON, "2026-03-01T12:00:00+00:00"),
        (NOON.date(), "2026-03-01"),
        (Level.BEGINNER, "beginner"),
        (Number.ONE, 1),
        (unordered([{"b": 1, "a": 2}, "x"]), unordered(["x", {"a": 2, "b": 1.0}])),
        (unordered([unordered([1, 2]), 3]), unordered([3, unordered([2, 1])])),
    ],
)
def test_equal_inputs_have_one_key(one: Any, other: Any) -> None:
    assert content_hash(one) == content_hash(other)
    assert content_hash(x=[one]) == content_hash(x=[other])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((("ab", "c"), {}), (("a", "bc"), {})),
        (((["a", "b"],), {}), (("a", "b"), {})),
        (((), {"a": 1}), (({"a": 1},), {})),
        (((), {"a": None}), (((), {}), {"b": None})),
        ((("a",), {}), (("a", None), {})),
        (((), {"parts": ["a"]}), (("a",), {})),
        (((), {"a": {"b": 1}}), ((), {"a": [["b", 1]]})),
    ],
)
def test_where_one_input_ends_and_the_next_begins_is_in_the_key(one: Any, other: Any) -> None:
    assert content_hash(*one[0], **one[1]) != content_hash(*other[0], **other[1])


def test_values_of_different_types_have_different_keys() -> None:
    alike = [
        1, True, "1", "True", None, "null", "None", 0, False, "", [], {}, [1], {"1": 1}, ["1"], [[]], [None],
        NOON, NOON.date(), date(2026, 3, 2), NOON + timedelta(microseconds=1), NOON.replace(tzinfo=None),
        unordered([2, 1, 1]), unordered([2, 1]), [1, 1], [2, 1], "e", "é", "É", "a", "a ", "A",
        2**53 - 1, 2**53 - 2, str(2**53 - 1), float(2**53), -(2**53 - 1), 0.1, 0.1 + 2**-55, 1e-7, 1e300,
    ]  # fmt: skip

    assert len({content_hash(value) for value in alike}) == len(alike)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: content_hash(), "given nothing"),
        (lambda: content_hash(float("nan")), r"parts\[0\] is nan"),
        (lambda: content_hash(x=[1, float("inf")]), r"params\.x\[1\] is inf"),
        (lambda: content_hash(tools=[{"schema": {1, 2}}]), r"params\.tools\[0\]\.schema is a set.*unordered"),
        (lambda: content_hash(id=2**53), r"params\.id is 9007199254740992, beyond.*str"),
        (lambda: content_hash(image=b"a"), r"params\.image is a bytes.*\.hex"),
        (lambda: content_hash(x={"a": {1: 2}}), r"params\.x\.a has the key 1, a int"),
        (lambda: content_hash(x={True: 2}), r"params\.x has the key True"),
        (lambda: content_hash(x={"\u00e9": 1, "e\u0301": 1}), r"params\.x has two keys"),
        (lambda: content_hash("\ud800"), r"parts\[0\] holds half of a character"),
        (lambda: content_hash({"\ud800": 1}), r"parts\[0\] holds half of a character"),
        (lambda: content_hash(x=object()), r"params\.x is a object"),
        (lambda: content_hash(x=Plain.A), r"params\.x is a Plain.*\.value"),
        (lambda: content_hash(x=Point(1)), r"params\.x is a Point.*asdict"),
        (lambda: content_hash(x=Decimal("1")), r"params\.x is a Decimal.*str"),
        (lambda: content_hash(x=timedelta(1)), r"params\.x is a timedelta"),
        (lambda: content_hash(x=(n for n in "ab")), r"params\.x is a generator.*list"),
        (lambda: content_hash(x="{place}", y=object), r"params\.y is a type"),
        (lambda: unordered("ab"), "needs a list"),
        (lambda: unordered(3), "needs a list"),
    ],
)
def test_what_cannot_be_told_apart_is_refused_by_its_path(call: Any, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        call()


def test_what_contains_itself_or_is_too_deep_is_refused() -> None:
    circle: list[Any] = []
    circle.append({"again": circle})
    deep: Any = "x"
    for _ in range(200):
        deep = [deep]

    for value in (circle, deep):
        with pytest.raises(InvalidInput, match=r"parts\[0\].* more than 100 levels deep"):
            content_hash(value)
    with pytest.raises(InvalidInput, match=r"unordered\[0\].* more than 100 levels deep"):
        unordered([circle])


def test_a_key_stays_what_it_is_from_one_version_to_the_next() -> None:
    """A change of this is a change of the rules: then `_RULES` goes up, and every cache begins anew."""
    key = content_hash("Explain S3.", {"role": "user", "n": [1, 2.5, None]}, model="gpt-5.4", at=NOON, raw="\x00")

    assert key == "0a18a135ca5dad5f6ee6066cd406f18f7e77eec6dbb7fec71577f72634b90823"


def test_no_two_of_many_generated_inputs_share_a_key() -> None:
    assert_all_different(random.Random(7), GENERATED)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(1 - 2**53, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


def normal(value: Any) -> Any:
    """What an input means: texts in NFC, whole floats as integers, booleans apart from numbers."""
    if isinstance(value, bool) or value is None:
        return ["constant", str(value)]
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    if isinstance(value, list):
        return ["list", *map(normal, value)]
    if isinstance(value, dict):
        return {normal(key): normal(one) for key, one in value.items()}
    return int(value) if value == int(value) else value


def shuffled(value: Any, chance: random.Random) -> Any:
    """The same, written otherwise: dicts in another order, texts in NFD, whole numbers as floats where they fit."""
    if isinstance(value, str):
        return unicodedata.normalize("NFD", value)
    if isinstance(value, list):
        return tuple(shuffled(one, chance) for one in value)
    if isinstance(value, dict):
        items = [(shuffled(key, chance), shuffled(one, chance)) for key, one in value.items()]
        chance.shuffle(items)
        return dict(items)
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value


def has_twins(value: Any) -> bool:
    if isinstance(value, dict):
        return len({normal(key) for key in value}) < len(value) or any(map(has_twins, value.values()))
    return isinstance(value, list) and any(map(has_twins, value))


@settings(max_examples=150, deadline=None)
@given(JSON, st.randoms(use_true_random=False))
def test_the_same_input_written_otherwise_has_the_same_key(value: Any, chance: random.Random) -> None:
    if has_twins(value):
        with pytest.raises(InvalidInput, match="two keys"):
            content_hash(value)
    else:
        assert content_hash(value) == content_hash(shuffled(value, chance))
        assert content_hash(value) == content_hash(json.loads(json.dumps(value)))


@settings(max_examples=150, deadline=None)
@given(JSON, JSON)
def test_two_inputs_share_a_key_only_if_they_mean_the_same(one: Any, other: Any) -> None:
    if has_twins(one) or has_twins(other):
        return

    assert (content_hash(one) == content_hash(other)) == (normal(one) == normal(other))
