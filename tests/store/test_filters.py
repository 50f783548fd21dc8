"""Searches: every condition means the same on both databases, and what can't be meant is refused."""

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from conftest import START, Clock
from sqlalchemy import Engine

from lib.errors import InvalidInput
from lib.retrieval.search import retrieve
from lib.store.items import MemoryList
from lib.store.memory_store import MemoryStore


def keys(memories: MemoryList) -> list[str]:
    return [memory.key for memory in memories]


def put_all(store: MemoryStore, **values: dict[str, Any]) -> None:
    for key, value in values.items():
        store.put("ada", "facts", key, value)


# --- search ---------------------------------------------------------------------------------------


def test_search_gives_the_newest_first(store: MemoryStore, clock: Clock) -> None:
    for key in ("a", "b", "c"):
        store.put("ada", "facts", key, {})
        clock.advance(seconds=1)
    store.put("ada", "plans", "a", {})
    clock.advance(microseconds=1)
    store.put("ada", "facts", "a", {"again": True})

    found = store.search("ada")

    assert [(m.namespace, m.key) for m in found] == [("facts", "a"), ("plans", "a"), ("facts", "c"), ("facts", "b")]


def test_memories_of_one_instant_keep_a_stable_order(store: MemoryStore) -> None:
    for number in range(30):
        store.put("ada", "facts", f"key-{number * 7 % 30}", {})

    whole = keys(store.search("ada", limit=None))
    pages = [key for start in range(0, 30, 4) for key in keys(store.search("ada", limit=4, offset=start))]

    assert whole == [f"key-{number * 7 % 30}" for number in reversed(range(30))]
    assert pages == whole == keys(store.search("ada", "facts", limit=None))


def test_the_order_does_not_depend_on_the_time_zone_of_the_clock(engine: Engine) -> None:
    times = [START.astimezone(timezone(timedelta(hours=h))) + timedelta(minutes=m) for m, h in enumerate([9, -8, 0, 5])]
    store = MemoryStore(engine, now=lambda: times[-1])

    for number in range(4):
        times.append(times[number])
        store.put("ada", "facts", f"key-{number}", {})

    assert keys(store.search("ada")) == ["key-3", "key-2", "key-1", "key-0"]


def test_search_can_be_kept_to_one_namespace(store: MemoryStore) -> None:
    store.put_many("ada", [("facts", "a", {}), ("plans", "b", {}), ("fact", "c", {}), ("facts%", "d", {})])

    assert keys(store.search("ada", "facts")) == ["a"]
    assert keys(store.search("ada", "nowhere")) == []


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (1, {"int", "float"}),
        (1.0, {"int", "float"}),
        (True, {"true"}),
        ("1", {"text"}),
        (None, {"null"}),
        (0, {"zero"}),
        (False, {"false"}),
        ("", {"empty"}),
        ("true", {"word"}),
        ("null", set()),
        ("%", set()),
        (0.1 + 0.2, {"inexact"}),
        (0.3, set()),
        (10**16, {"large"}),
        (1e16, {"large"}),
        (2**53 + 1, {"odd"}),
        (float(2**53), set()),
    ],
    # None takes pytest's own name; the order in a set's repr differs between the processes of the tests.
    ids=lambda part: None if isinstance(part, set) else repr(part),
)
def test_filter_tells_types_and_numbers_apart(store: MemoryStore, wanted: Any, expected: set[str]) -> None:
    put_all(
        store, int={"f": 1}, float={"f": 1.0}, true={"f": True}, text={"f": "1"}, null={"f": None}, absent={"g": 1},
        zero={"f": 0}, false={"f": False}, empty={"f": ""}, word={"f": "true"}, list={"f": [1]}, object={"f": {"f": 1}},
        inexact={"f": 0.1 + 0.2}, large={"f": 1e16}, odd={"f": 2**53 + 1},
    )  # fmt: skip

    found = store.search("ada", filter={"f": wanted}, limit=None)

    assert set(keys(found)) == expected


@pytest.mark.parametrize(
    "field",
    ["plain", "", " ", "a.b", "a[0]", "$", "$.a", "it's", 'a"b', "a\\b", "100%", "_", "é", "e\u0301", "日本", "😀",
     "a\nb", "\t", "\x01", "a:b", ":name", "%s", "%(x)s", "{x}",
     "?", "0", "--", "'); DROP TABLE memories; --", "k" * 3000],
)  # fmt: skip
def test_a_field_of_any_name_can_be_filtered(store: MemoryStore, field: str) -> None:
    put_all(store, yes={field: "here", "other": 1}, no={field: "there"}, deeper={"x": {field: "here"}}, absent={})

    assert keys(store.search("ada", filter={field: "here"})) == ["yes"]
    assert keys(store.search("ada", filter={field: "here", "other": 1})) == ["yes"]


def test_every_field_of_a_filter_must_hold(store: MemoryStore) -> None:
    put_all(store, both={"type": "semantic", "n": 1}, one={"type": "semantic", "n": 2}, none={"type": "episodic"})

    assert keys(store.search("ada", filter={"type": "semantic", "n": 1})) == ["both"]
    assert len(store.search("ada", filter={})) == 3


def test_topics_finds_lists_that_hold_any_of_them_spelled_alike(store: MemoryStore) -> None:
    put_all(
        store, s3={"topics": ["S3", "aws"]}, other={"topics": ["gcp"]}, text={"topics": "S3"}, none={"topics": []},
        absent={"content": "S3"}, number={"topics": [1, None, True]}, lower={"topics": ["s3"]},
        nested={"topics": [["S3"]]}, object={"topics": {"S3": 1}}, odd={"topics": ["it's \"50%\"", "日本"]},
    )  # fmt: skip

    assert keys(store.search("ada", topics=["S3"])) == ["s3"]
    assert set(keys(store.search("ada", topics=["S3", "gcp", "nowhere"]))) == {"s3", "other"}
    assert keys(store.search("ada", topics=('it\'s "50%"',))) == ["odd"]
    assert keys(store.search("ada", topics=["日本"])) == ["odd"]
    assert keys(store.search("ada", topics=["1"])) == keys(store.search("ada", topics=["true"])) == []


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("100%", {"100%_a", "100%"}),
        ("100", {"100%_a", "100%", "1000"}),
        ("_", {"_x"}),
        ("%", set()),
        ("Cafe", set()),
        ("Café", {"Café 😀 x"}),
        ("Café 😀", {"Café 😀 x"}),
        ("a\\", {"a\\b"}),
        ("a'", {"a'b"}),
        ("[a", {"[ab]"}),
        ("", {"100%_a", "100%", "1000", "_x", "Café 😀 x", "a\\b", "a'b", "[ab]", "Xx"}),
        ("z" * 500, set()),
    ],
)
def test_key_prefix_takes_every_character_literally(store: MemoryStore, prefix: str, expected: set[str]) -> None:
    for key in ["100%_a", "100%", "1000", "_x", "Xx", "Café 😀 x", "a\\b", "a'b", "[ab]"]:
        store.put("ada", "facts", key, {})

    assert set(keys(store.search("ada", key_prefix=prefix, limit=None))) == expected


def test_since_is_included_and_until_is_not(store: MemoryStore, clock: Clock) -> None:
    for key in ("first", "second", "third"):
        store.put("ada", "facts", key, {})
        clock.advance(hours=1)
    second = START + timedelta(hours=1)

    assert keys(store.search("ada", since=second)) == ["third", "second"]
    assert keys(store.search("ada", until=second)) == ["first"]
    assert keys(store.search("ada", since=second, until=second + timedelta(microseconds=1))) == ["second"]
    assert keys(store.search("ada", since=second, until=second)) == []
    assert keys(store.search("ada", since=second.astimezone(timezone(timedelta(hours=-7))))) == ["third", "second"]


def test_since_looks_at_the_last_update(store: MemoryStore, clock: Clock) -> None:
    store.put("ada", "facts", "old", {})
    clock.advance(days=1)

    store.put("ada", "facts", "old", {"new": 1})

    assert keys(store.search("ada", since=START + timedelta(hours=1))) == ["old"]


@pytest.mark.parametrize(
    ("minimum", "expected"),
    [
        (0.9, {"high", "one", "huge"}),
        (0.5, {"half", "high", "one", "huge"}),
        (1, {"one", "huge"}),
        (0, {"zero", "third", "half", "high", "one", "huge"}),
        (-5, {"zero", "third", "half", "high", "one", "huge"}),
        (0.3, {"third", "half", "high", "one", "huge"}),
        (0.1 + 0.2, {"half", "high", "one", "huge"}),
        (2**53 + 1, {"huge"}),
    ],
)
def test_min_confidence_compares_numbers_only(store: MemoryStore, minimum: float, expected: set[str]) -> None:
    put_all(
        store, high={"confidence": 0.9}, half={"confidence": 0.5}, one={"confidence": 1}, zero={"confidence": 0},
        third={"confidence": 0.3}, text={"confidence": "0.99"}, word={"confidence": "high"}, none={"confidence": None},
        true={"confidence": True}, list={"confidence": [1]}, absent={"content": "0.99"}, huge={"confidence": 10**300},
        nested={"x": {"confidence": 1}}, empty={"confidence": ""},
    )  # fmt: skip

    assert set(keys(store.search("ada", min_confidence=minimum, limit=None))) == expected


def test_limit_and_offset_cut_the_same_order(store: MemoryStore, clock: Clock) -> None:
    for number in range(15):
        store.put("ada", "facts", str(number), {})
        clock.advance(seconds=1)
    newest_first = [str(number) for number in reversed(range(15))]

    assert keys(store.search("ada")) == newest_first[:10]
    assert keys(store.search("ada", limit=3, offset=4)) == newest_first[4:7]
    assert keys(store.search("ada", limit=None)) == newest_first
    assert keys(store.search("ada", limit=None, offset=12)) == newest_first[12:]
    assert keys(store.search("ada", limit=0)) == []
    assert keys(store.search("ada", offset=15)) == []
    assert keys(store.search("ada", limit=2**31 - 1, offset=2**31 - 1)) == []


def test_all_conditions_together(store: MemoryStore, clock: Clock) -> None:
    wanted = {"content": "likes Café", "type": "semantic", "topics": ["food"], "confidence": 0.8}
    store.put("ada", "facts", "pre-1", wanted)
    for field, value in [("content", "tea"), ("type", "x"), ("topics", ["y"]), ("confidence", 0.1)]:
        store.put("ada", "facts", f"pre-{field}", {**wanted, field: value})
    store.put("ada", "facts", "other", wanted)
    store.put("ada", "plans", "pre-1", wanted)
    store.put("bob", "facts", "pre-1", wanted)
    clock.advance(days=1)
    store.put("ada", "facts", "pre-late", wanted)
    conditions = {
        "filter": {"type": "semantic"}, "topics": ["food"], "key_prefix": "pre-", "since": START,
        "until": START + timedelta(seconds=1), "min_confidence": 0.5,
    }  # fmt: skip

    assert keys(store.search_by_content("ada", "cafe", "facts", **conditions)) == ["pre-1"]
    assert set(keys(store.search("ada", "facts", **conditions))) == {"pre-1", "pre-content"}


# --- search_by_content ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stored", "term"),
    [
        ("Lives in Montréal", "MONTREAL"),
        ("Lives in MONTREAL", "montréal"),
        ("Asks Łukasz", "Lukasz"),
        ("Asks Lukasz", "łukasz"),
        ("caf\u00e9", "cafe\u0301"),
        ("Straße", "STRASSE"),
        ("Ærø, Ørsted", "aero, orsted"),
        ("ΑΘΗΝΑ", "αθήνα"),
        ("Ёлка", "елка"),
        ("İstanbul", "istanbul"),
        ("ﬁne", "FINE"),
        ("１２３", "123"),
        ("two  words\nand\ta third", "words and A third"),
        ("שָׁלוֹם", "שלום"),
        ("مُحَمَّد", "محمد"),
        ("日本語", "本"),
        ("हिन्दी", "हिन्दी"),
        ("한국어", "한국"),
        ("party 🎉 time", "🎉"),
    ],
)
def test_content_is_found_without_regard_to_case_and_accents(store: MemoryStore, stored: str, term: str) -> None:
    put_all(store, yes={"content": stored}, no={"content": "something else"})

    assert keys(store.search_by_content("ada", term)) == ["yes"]


@pytest.mark.parametrize(
    ("stored", "term"),
    [("がく", "かく"), ("かく", "がく"), ("ハス", "パス"), ("की", "का"), ("कि", "की"), ("กิน", "กัน"), ("日本", "日木")],
)
def test_marks_that_make_another_letter_are_not_dropped(store: MemoryStore, stored: str, term: str) -> None:
    put_all(store, word={"content": stored})

    assert store.search_by_content("ada", term) == []
    assert keys(store.search_by_content("ada", stored)) == ["word"]


def test_names_of_json_fields_are_not_searched(store: MemoryStore) -> None:
    put_all(store, a={"content": "tea", "nested": {"inner": ["green"]}})

    for name in ["content", "nested", "inner", "{", '"', "[", ":", ",", "null", "tea,"]:
        assert store.search_by_content("ada", name) == [], name


@pytest.mark.parametrize(
    "term", ["%", "_", "\\", "'", '"', "*", "?", "[a]", "100%", "a_b", "c:\\d", "(.*)", "^", "%%", ":x"]
)
def test_every_character_of_a_term_is_literal(store: MemoryStore, term: str) -> None:
    put_all(store, has={"content": f"before {term} after"}, hasnt={"content": "axb 100 c;d plain"})

    assert keys(store.search_by_content("ada", term)) == ["has"]


def test_texts_and_numbers_at_any_depth_are_found(store: MemoryStore) -> None:
    put_all(store, a={"x": [{"y": ["deep tea"]}], "n": 4711, "price": 2.5}, b={"t": True, "n": None})

    for term in ["deep", "4711", "71", "2.5"]:
        assert keys(store.search_by_content("ada", term)) == ["a"], term
    assert store.search_by_content("ada", "true") == store.search_by_content("ada", "none") == []


def test_a_term_does_not_match_across_two_texts(store: MemoryStore) -> None:
    put_all(store, a={"first": "green", "second": "tea", "third": ["black", "coffee"]})

    for term in ["green tea", "greentea", "green\ntea", "n\nt", "black coffee", "blackcoffee"]:
        assert store.search_by_content("ada", term) == [], term


def test_content_is_found_newest_first_and_in_pages(store: MemoryStore, clock: Clock) -> None:
    for number in range(15):
        store.put("ada", "facts", str(number), {"content": "tea"})
        clock.advance(seconds=1)

    assert keys(store.search_by_content("ada", "TEA")) == [str(n) for n in range(14, 4, -1)]
    assert keys(store.search_by_content("ada", "TEA", limit=2, offset=3)) == ["11", "10"]
    assert store.search_by_content("ada", "tea", "plans") == []


def test_a_term_longer_than_any_text_is_not_found(store: MemoryStore) -> None:
    put_all(store, a={"content": "x"})

    assert store.search_by_content("ada", "x" * 100_000) == []


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "conditions",
    [
        {"namespace": ""}, {"namespace": 5}, {"namespace": "n" * 101},
        {"limit": -1}, {"limit": 1.5}, {"limit": True}, {"limit": "10"}, {"limit": 2**31},
        {"offset": -1}, {"offset": None}, {"offset": 0.0}, {"offset": 2**63},
        {"filter": "type"}, {"filter": [("type", "x")]}, {"filter": {1: "x"}}, {"filter": {"a": ["x"]}},
        {"filter": {"a": {"b": 1}}}, {"filter": {"a": float("nan")}}, {"filter": {"a": float("inf")}},
        {"filter": {"a": 10**30}}, {"filter": {"a": "\x00"}}, {"filter": {"a\x00": "x"}}, {"filter": {"a": "\udc00"}},
        {"filter": {"a": b"x"}}, {"filter": {"a": START}}, {"filter": {None: 1}},
        {"topics": "S3"}, {"topics": []}, {"topics": [1]}, {"topics": [None]}, {"topics": {"S3"}}, {"topics": ["\x00"]},
        {"topics": ["\ud800"]}, {"topics": 3}, {"topics": [["S3"]]},
        {"key_prefix": 5}, {"key_prefix": "\x00"}, {"key_prefix": "\ud800"}, {"key_prefix": b"x"},
        {"since": datetime(2026, 1, 1)}, {"until": datetime(2026, 1, 1)}, {"since": "2026-01-01"}, {"until": 5},
        {"since": START.date()},
        {"min_confidence": "0.5"}, {"min_confidence": float("nan")}, {"min_confidence": float("-inf")},
        {"min_confidence": True}, {"min_confidence": [1]}, {"min_confidence": 10**400},
    ],
    ids=lambda conditions: str(conditions)[:60].encode("unicode_escape").decode(),
)  # fmt: skip
def test_a_condition_that_cannot_be_meant_is_refused(store: MemoryStore, conditions: dict[str, Any]) -> None:
    store.put("ada", "facts", "k", {"a": 1})

    with pytest.raises(InvalidInput):
        store.search("ada", **conditions)
    with pytest.raises(InvalidInput):
        store.search_by_content("ada", "a", **conditions)


@pytest.mark.parametrize("term", ["", " ", "\n\t", "\u0301", None, 5, b"tea", ["tea"], "\x00", "\ud83d"])
def test_a_term_that_cannot_be_searched_is_refused(store: MemoryStore, term: Any) -> None:
    with pytest.raises(InvalidInput):
        store.search_by_content("ada", term)


@pytest.mark.parametrize("wrong", ["topic", "minimum_confidence", "contains", "Filter"])
def test_a_condition_that_there_is_not_is_named_with_those_there_are(store: MemoryStore, wrong: str) -> None:
    calls = {
        "search": lambda: store.search("ada", **{wrong: "S3"}),
        "search_by_content": lambda: store.search_by_content("ada", "tea", **{wrong: "S3"}),
        "retrieve": lambda: retrieve(store, "ada", "tea", **{wrong: "S3"}),
    }

    for name, call in calls.items():
        with pytest.raises(InvalidInput) as refused:
            call()

        assert str(refused.value) == (
            f"{name} knows no condition {wrong}; it knows filter, topics, key_prefix, since, until, min_confidence."
        )
