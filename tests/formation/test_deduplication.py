"""Memories that are said again, corrected or out of date: nothing piles up, nothing newer is lost."""

from datetime import UTC, datetime, timedelta

import pytest

from lib.database.transactions import write_transaction
from lib.errors import InvalidInput
from lib.formation.deduplication import Remembered, check_memory, remember_all, says_the_same, similarity
from lib.store.memory_store import MemoryStore

MARCH = datetime(2026, 3, 3, tzinfo=UTC)


def memory(content: str, key: str = "exam_date", namespace: str = "facts", **more: object) -> dict:
    plain = {"namespace": namespace, "key": key, "content": content, "type": "semantic", "turn": 1}
    return {**plain, "topics": [], "confidence": 1.0, **more}


def remember(store: MemoryStore, *memories: dict, days: int = 0, source: str = "one") -> Remembered:
    return remember_all(store, "ada", memories, source=source, said_at=MARCH + timedelta(days=days))


def contents(store: MemoryStore) -> dict[str, str]:
    return {item.key: item.value["content"] for item in store.search("ada", limit=None)}


def test_a_new_memory_is_stored_with_where_and_when_it_was_said(store: MemoryStore) -> None:
    counts = remember(store, memory("The exam is on 22 May."))

    assert counts == Remembered(new=1)
    value = store.get("ada", "facts", "exam_date")
    assert (value["source"], value["said_at"], value["turn"]) == ("one", MARCH.isoformat(), 1)


def test_the_same_conversation_twice_stores_nothing_twice(store: MemoryStore) -> None:
    remember(store, memory("The exam is on 22 May."))

    counts = remember(store, memory("The exam is on 22 May."))

    assert counts == Remembered(said_again=1)
    assert len(store.history("ada", "facts", "exam_date")) == 1


def test_a_correction_replaces_and_the_old_version_stays_in_the_history(store: MemoryStore) -> None:
    remember(store, memory("The exam is on 22 May."))

    counts = remember(store, memory("The exam is on 18 June."), days=1)

    assert counts == Remembered(corrected=1)
    versions = [version.value["content"] for version in store.history("ada", "facts", "exam_date")]
    assert versions == ["The exam is on 22 May.", "The exam is on 18 June."]


def test_the_same_thing_under_another_key_meets_the_one_that_stands(store: MemoryStore) -> None:
    remember(store, memory("Zoë has a cat called Pixel.", key="cat"))

    counts = remember(store, memory("Zoë has a black cat called Pixel.", key="pet"), days=1)

    assert counts == Remembered(said_again=1)
    assert contents(store) == {"cat": "Zoë has a black cat called Pixel."}


def test_two_facts_that_differ_in_a_number_stay_two(store: MemoryStore) -> None:
    remember(store, memory("The exam in Lund is on 22 May.", key="exam"))

    remember(store, memory("The exam in Lund is on 23 May.", key="second_exam"))

    assert set(contents(store)) == {"exam", "second_exam"}


def test_two_facts_of_one_shape_stay_two(store: MemoryStore) -> None:
    remember(store, memory("Ada is very allergic to raw nuts.", key="allergy"))

    remember(store, memory("Ada is very allergic to raw fish.", key="second_allergy"))

    assert set(contents(store)) == {"allergy", "second_allergy"}


def test_the_same_words_in_another_order_are_another_fact(store: MemoryStore) -> None:
    remember(store, memory("Ada moved from Lund to Malmö.", key="home"))

    remember(store, memory("Ada moved from Malmö to Lund.", key="home"), days=1)

    assert contents(store) == {"home": "Ada moved from Malmö to Lund."}


def test_what_an_agent_stored_later_is_not_overwritten_by_an_older_conversation(store: MemoryStore) -> None:
    store.put("ada", "facts", "exam_date", {"content": "The exam is on 18 June."})

    counts = remember(store, memory("The exam is on 22 May."), days=-400)

    assert counts == Remembered(outdated=1)


def test_two_evenings_with_one_name_are_two_evenings(store: MemoryStore) -> None:
    same = {"namespace": "episodes", "type": "episodic", "key": "session"}
    remember(store, memory("Worked on subnets.", **same))

    counts = remember(store, memory("Worked on routes.", **same), days=1)
    again = remember(store, memory("Worked on routes.", **same), days=1)

    assert counts == Remembered(new=1) and again == Remembered(said_again=1)
    assert set(contents(store)) == {"2026-03-03_0000_session", "2026-03-04_0000_session"}


def test_two_evenings_that_went_alike_are_two_evenings(store: MemoryStore) -> None:
    same = {"namespace": "episodes", "type": "episodic"}
    remember(store, memory("Worked on subnets.", key="monday", **same))

    counts = remember(store, memory("Worked on subnets.", key="tuesday", **same), days=1)

    assert counts == Remembered(new=1)


def test_an_older_conversation_never_overwrites_a_newer_memory(store: MemoryStore) -> None:
    remember(store, memory("The exam is on 18 June."), days=10)

    counts = remember(store, memory("The exam is on 22 May."))

    assert counts == Remembered(outdated=1)
    assert contents(store) == {"exam_date": "The exam is on 18 June."}


def test_what_the_agent_remembered_by_hand_is_not_stored_twice(store: MemoryStore) -> None:
    store.put("ada", "facts", "exam", {"content": "The exam in Lund is on 22 May.", "type": "semantic"})

    counts = remember(store, memory("The exam is on 22 May, in Lund."))

    assert counts == Remembered(said_again=1)
    assert set(contents(store)) == {"exam"}


def test_in_an_open_transaction_all_of_it_happens_or_nothing(store: MemoryStore) -> None:
    with pytest.raises(ZeroDivisionError), write_transaction(store._engine) as connection:
        remember(store.in_transaction(connection), memory("one", key="a"), memory("two", key="b"))
        1 / 0  # noqa: B018

    assert contents(store) == {}


@pytest.mark.parametrize("bad", [("", "k", "c"), ("n", "k" * 201, "c"), ("n", "k", " "), ("n", "k", "c" * 1001)])
def test_what_can_not_be_stored_is_named_before(bad: tuple[str, str, str]) -> None:
    with pytest.raises(InvalidInput):
        check_memory(*bad)


def test_similarity_is_symmetric_and_between_none_and_all() -> None:
    assert similarity("a cat called Pixel", "Pixel, called cat") == 1
    assert similarity("cat", "exam") == similarity("exam", "cat") == 0
    assert similarity("", "") == 1
    assert not says_the_same("", "cat")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("मेरा चाचा किसान है", "मेरी चाची किसान है"),  # Hindi: my uncle, my aunt is a farmer
        ("আমার মামা শিক্ষক", "আমার মামি শিক্ষক"),  # Bengali: my uncle, my aunt is a teacher
        ("ฉันชอบปลา", "ฉันชอบเปล"),  # Thai: I like fish, I like a hammock
        ("எனக்கு மாடு உண்டு", "எனக்கு மேடு உண்டு"),  # Tamil: I have a cow, I have a mound
    ],
)
def test_facts_that_differ_in_a_vowel_sign_are_two_facts(store: MemoryStore, one: str, other: str) -> None:
    counts = remember(store, memory(one, key="first"), memory(other, key="second"))

    assert not says_the_same(one, other)
    assert counts == Remembered(new=2)
    assert contents(store) == {"first": one, "second": other}


def test_a_fact_written_with_and_without_its_optional_vowel_marks_is_one() -> None:
    assert says_the_same("أُخْتِي طَبِيبَة في بَغْداد", "أختي طبيبة في بغداد")
    assert not says_the_same("أختي طبيبة في بغداد", "أخي طبيب في بغداد")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("She takes her pills before breakfast.", "She takes her pills after breakfast."),
        ("His dog is brown.", "Her dog is brown."),
        ("Bo knows Rust.", "Bo wants Rust."),
    ],
)
def test_facts_that_differ_in_a_common_word_are_two_facts(one: str, other: str) -> None:
    assert not says_the_same(one, other)
