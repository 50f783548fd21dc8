"""Values: what may be stored, how it looks afterwards, and how its text is made searchable."""

import json
import math
import re
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, func, select

from lib.database.tables import Memory, User
from lib.errors import InvalidInput, WorkbookError
from lib.store.memory_store import MemoryStore
from lib.store.values import MAX_BYTES, MAX_DEPTH, check_text, prepare
from lib.text_terms import fold

SQL = [
    "'; DROP TABLE memories; --",
    '" OR ""="',
    "%s",
    "%(user_id)s",
    ":key",
    "?",
    "$1",
    "{}",
    "\\'",
    "/* */",
    "E'\\000'",
]
ODD_TEXTS = [
    *SQL, "🧠👩‍👩‍👧‍👦", "שלום עולם", "\u202eevil\u202c", "مرحبا", "e\u0301", "é", "日本語", "हिन्दी", "\ufeff",
    "\ufffe", "\uffff", "\u2028", "\r\n", "\t", "\x01", "\x1f", "\x7f", "\x85", "\u0378", "\U0010ffff",
    "\\u0000", "<script>", "null", "NaN", "𝕏",
]  # fmt: skip
UNSTORABLE_TEXTS = ["\x00", "a\x00b", "\ud83d", "\udc00", "ok\udfff"]
UNSTORABLE_PARTS = [math.nan, math.inf, -math.inf, 10**400, -(10**5000), b"x", {1}, datetime(2026, 1, 1), Decimal(1),
                    UUID(int=1), object(), 1j, {1: "x"}, {None: 1}, {("a",): 1}, *UNSTORABLE_TEXTS, Path("x"),
                    range(3)]  # fmt: skip
EDGE_NUMBERS = [2**53 + 1, 2**63, -(2**63), 10**30, 10**399, 1e16, 1.5e300, -1e22, 9999999999999998.0, 5e-324, 1.7e308,
                -0.0, 0.0, 0.1, 0.1 + 0.2, 1e-7, 123456789.12345679, 1e15, 2**1000, 100.0]  # fmt: skip


def nested(levels: int) -> dict[str, Any]:
    """A value of so many levels, lists and objects in turn."""
    part: Any = "bottom"
    for level in range(levels - 1):
        part = [part] if level % 2 else {"in": part}
    return {"in": part}


# Inputs are drawn so that about half of them can be stored; the test counts both.
characters = st.characters(codec="utf-8", exclude_characters="\x00")
good_texts = st.one_of(st.text(characters, max_size=20), st.sampled_from(ODD_TEXTS))


def mostly(usual: st.SearchStrategy, odd: st.SearchStrategy, *, one_in: int) -> st.SearchStrategy:
    """`one_of` can't do this: it takes out strategies that are named twice."""
    return st.integers(1, one_in).flatmap(lambda number: odd if number == one_in else usual)


names = mostly(
    st.text(characters, min_size=1, max_size=50),
    st.one_of(
        st.sampled_from([text for text in ODD_TEXTS if text.strip()]),
        st.sampled_from(["", " ", "\u3000", "x" * 50, "😀" * 50, "x" * 201, None, 5, b"x", *UNSTORABLE_TEXTS]),
        st.text(st.characters(), max_size=5),
    ),
    one_in=6,
)
leaves = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), good_texts,
    st.sampled_from(EDGE_NUMBERS),
)  # fmt: skip
json_objects = st.dictionaries(
    good_texts,
    st.recursive(
        leaves,
        lambda parts: st.one_of(
            st.lists(parts, max_size=4),
            st.dictionaries(good_texts, parts, max_size=4),
            st.lists(parts, max_size=3).map(tuple),
        ),
        max_leaves=12,
    ),
    max_size=5,
)
bad_parts = st.one_of(
    st.sampled_from(UNSTORABLE_PARTS), st.text(st.characters(categories=["Cs"]), min_size=1, max_size=3)
)
odd_values = st.one_of(
    st.builds(lambda value, key, bad: {**value, key: [1, {"deep": bad}]}, json_objects, good_texts, bad_parts),
    st.builds(lambda bad: {bad: 1}, st.sampled_from(UNSTORABLE_TEXTS)),
    st.integers(1, MAX_DEPTH + 30).map(nested),
    st.sampled_from(["é", "😀", "a", "'", "\\", '"', " x"]).map(
        lambda text: {"content": text * (1_000_000 // len(text))}
    ),
    st.one_of(leaves, st.lists(leaves), bad_parts),
)
values = mostly(json_objects, odd_values, one_in=3)


def storable(user_id: Any, namespace: Any, key: Any, value: Any) -> bool:
    """What the rules say, written a second time, in the plainest way."""

    def is_text(text: Any) -> bool:
        return isinstance(text, str) and not re.search("[\x00\ud800-\udfff]", text)

    def is_json(part: Any, depth: int) -> bool:
        if isinstance(part, dict | list | tuple):
            parts = part.values() if isinstance(part, dict) else part
            named = all(map(is_text, part)) if isinstance(part, dict) else True
            return depth <= MAX_DEPTH and named and all(is_json(inner, depth + 1) for inner in parts)
        if isinstance(part, float):
            return math.isfinite(part)
        return part is None or is_text(part) or (isinstance(part, int) and abs(part) < 10**400)

    limits = [(user_id, 50), (namespace, 100), (key, 200)]
    named = all(is_text(text) and text.strip() and len(text) <= longest for text, longest in limits)
    return named and isinstance(value, dict) and is_json(value, 1)


def plain(part: Any) -> Any:
    """A value after the two changes that are allowed: tuples are lists, and numbers are what JSONB makes of them."""
    if isinstance(part, dict):
        return {key: plain(inner) for key, inner in part.items()}
    if isinstance(part, list | tuple):
        return [plain(inner) for inner in part]
    if isinstance(part, float):
        return int(part) if abs(part) >= 1e16 else part + 0.0
    return part


def rows(engine: Engine) -> int:
    with engine.connect() as connection:
        return sum(connection.scalar(select(func.count()).select_from(table)) for table in (User, Memory))


def test_five_hundred_inputs_are_refused_with_nothing_stored_or_come_back_exactly(
    store: MemoryStore, engine: Engine
) -> None:
    outcomes = Counter()

    @settings(max_examples=800, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
    @given(user_id=names, namespace=names, key=names, value=values)
    def check(user_id: Any, namespace: Any, key: Any, value: Any) -> None:
        try:
            item = store.put(user_id, namespace, key, value)
        except WorkbookError as error:
            outcomes["refused"] += 1
            assert not storable(user_id, namespace, key, value), error
            assert rows(engine) == 0
            assert len(str(error)) < 1000
            str(error).encode()  # a message must be printable itself
            return
        outcomes["stored"] += 1
        try:
            assert storable(user_id, namespace, key, value)
            assert rows(engine) == 2
            found = store.get(user_id, namespace, key)
            assert found == plain(value)
            assert json.dumps(found, sort_keys=True) == json.dumps(plain(value), sort_keys=True)  # 1 == True == 1.0
            assert json.dumps(found) == json.dumps(item.value)  # and in the same order
            assert store.search(user_id) == [item]
            assert (item.user_id, item.namespace, item.key) == (user_id, namespace, key)
        finally:
            store.forget_user(user_id)

    check()

    assert outcomes.total() >= 500
    assert min(outcomes["stored"], outcomes["refused"]) > 100, outcomes  # else the test would prove little


@pytest.mark.parametrize("text", [*ODD_TEXTS, "x" * 1_000_000, "😀" * 250_000], ids=lambda text: ascii(text[:12]))
def test_odd_texts_come_back_from_every_place_they_can_stand_in(store: MemoryStore, text: str) -> None:
    name = text if len(text) < 50 and text.strip() else "plain"
    value = {"content": text, "list": [text, {text: text}], text: None}

    store.put(name, name, name, value)

    assert store.get(name, name, name) == value
    assert list(store.list_namespaces(name)) == [name]
    assert [item.key for item in store.search(name, name, filter={"content": text}, key_prefix=name)] == [name]


@pytest.mark.parametrize("number", EDGE_NUMBERS, ids=lambda number: repr(number)[:12])
def test_numbers_come_back_equal_and_of_one_type_from_both_databases(store: MemoryStore, number: float) -> None:
    item = store.put("ada", "facts", "k", {"n": number})

    found = store.get("ada", "facts", "k")["n"]

    assert found == number
    assert repr(found) == repr(item.value["n"]) == repr(plain(number))


def test_a_value_may_be_as_deep_as_the_limit_and_no_deeper(store: MemoryStore) -> None:
    store.put("ada", "facts", "deep", nested(MAX_DEPTH))

    assert store.get("ada", "facts", "deep") == nested(MAX_DEPTH)
    with pytest.raises(InvalidInput, match="nested more than 100 levels"):
        prepare(nested(MAX_DEPTH + 1))


def test_a_value_that_holds_itself_is_refused() -> None:
    value: dict[str, Any] = {}
    value["me"] = [value]

    with pytest.raises(InvalidInput, match="nested more than"):
        prepare(value)


def test_a_value_may_be_as_large_as_the_limit_and_no_larger(store: MemoryStore) -> None:
    room = MAX_BYTES - len('{"content":""}')

    store.put("ada", "facts", "large", {"content": "x" * room})

    assert len(store.get("ada", "facts", "large")["content"]) == room
    with pytest.raises(InvalidInput, match=r"10,000,001 bytes of JSON; the limit is 10,000,000"):
        prepare({"content": "x" * (room + 1)})


@pytest.mark.parametrize("value", [None, [], "text", 5, [("a", 1)], {"a"}, True, MAX_BYTES], ids=repr)
def test_a_value_that_is_no_object_is_refused_with_a_remedy(value: Any) -> None:
    with pytest.raises(InvalidInput, match=r"must be a dict .* Wrap it"):
        prepare(value)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"a": {"b": [0, math.nan]}}, "value.a.b[1] is nan"),
        ({"a": [math.inf]}, "value.a[0] is inf"),
        ({"when": datetime(2026, 1, 1, tzinfo=UTC)}, ".isoformat()"),
        ({"a": {1: "x"}}, "value.a has the key 1, a int; JSON keys are texts. Use '1'."),
        ({"a": "x\x00"}, "value.a holds a NUL character"),
        ({"a\x00": 1}, "a key of value holds a NUL character"),
        ({"a": "xy\ud83d"}, "at position 2"),
        ({"a": b"x"}, "value.a is a bytes"),
        ({"a": 10**400}, "more than 400 digits"),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_a_refusal_names_the_part_and_the_way_out(value: Any, says: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(says)):
        prepare(value)


@pytest.mark.parametrize(
    "bad", [math.nan, b"x" * 100_000, "\x00" * 100_000, 10**4000], ids=["nan", "bytes", "NUL", "int"]
)
def test_a_refusal_stays_short_whatever_it_is_about(bad: Any) -> None:
    for value in ({"k" * 100_000: bad}, {"k" * 100_000: {bad if isinstance(bad, str) else 5: 1}}):
        with pytest.raises(InvalidInput) as refused:
            prepare(value)

        assert len(str(refused.value)) < 1000


def test_preparing_twice_changes_nothing_more() -> None:
    first, as_json, _ = prepare({"topics": ("b", 1e16), "é": -0.0, "a": {"zz": 1, "b": None}})

    second = prepare(first)

    assert json.dumps(second[0]) == json.dumps(first)
    assert second[1] == as_json
    assert json.loads(as_json) == first


def test_the_search_text_has_one_folded_leaf_a_line() -> None:
    _, _, text = prepare({"a": "Two\nLines", "b": ["Été", 5, 2.5, None, True, ""], "c": {"Field": "x"}})

    assert text == "two lines\nete\n5\n2.5\nx"


@given(st.text(max_size=30))
@settings(max_examples=500, derandomize=True, deadline=None)
def test_folding_twice_is_folding_once(text: str) -> None:
    assert fold(fold(text)) == fold(text)


@given(st.text(max_size=30))
@settings(max_examples=500, derandomize=True, deadline=None)
def test_folding_hides_case_and_leaves_no_line_breaks(text: str) -> None:
    folded = fold(text)

    assert len(folded.splitlines()) <= 1
    assert folded == folded.strip()
    assert fold(text.lower()) == fold(fold(text).upper().lower()) or fold(text.upper()) == folded


def test_text_that_can_be_stored_passes_unchanged() -> None:
    for text in ODD_TEXTS:
        assert check_text(text, "x") is text
