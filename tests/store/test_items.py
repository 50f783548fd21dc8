"""Records that are handed out, and the lists of them: slices stay tables, and records can stand in sets."""

import copy
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from conftest import START

from lib.formation import FinishedSession, SessionList
from lib.records import RecordList
from lib.retrieval.scored_memory import ScoredMemory
from lib.store._archive import ArchivedItem, ArchivedList
from lib.store._history import MemoryVersion, VersionList
from lib.store.items import MemoryItem, MemoryList
from lib.store.memory_store import MemoryStore

VALUE = {"content": "Prefers <b>tea</b>", "topics": ["tea", {"cups": 2}]}
MEMORY = MemoryItem("ada", "facts", "drink", VALUE, START, START)
RECORDS = {
    MemoryList: MEMORY,
    ArchivedList: ArchivedItem("ada", "facts", "drink", VALUE, START, START, None, START, "old"),
    VersionList: MemoryVersion(VALUE, START, None),
    SessionList: FinishedSession("id", "ada", START, START, [{"turn": 1}], "pending", 0, None, None, {"a": []}),
}


@pytest.mark.parametrize("kind", RECORDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("part", [slice(1), slice(1, None), slice(None, None, -1), slice(5, 9)], ids=repr)
def test_a_slice_of_a_list_is_a_list_of_that_kind(kind: type[RecordList], part: slice) -> None:
    records = kind([RECORDS[kind]] * 3)

    piece = records[part]

    assert type(piece) is kind
    assert piece == list(records)[part]
    assert ("<table" in piece._repr_html_()) == bool(piece)
    assert type(records[0]) is type(RECORDS[kind])


@pytest.mark.parametrize("kind", RECORDS, ids=lambda kind: kind.__name__)
def test_a_list_shows_one_line_and_one_row_for_each_record_and_escapes_it(kind: type[RecordList]) -> None:
    records = kind([RECORDS[kind]] * 2)

    assert len(repr(records).splitlines()) == 2
    assert records._repr_html_().count("<tr>") == 3
    assert "<b>" not in records._repr_html_()
    assert repr(kind()) == kind.nothing
    assert RECORDS[kind]._repr_html_() == records[:1]._repr_html_()


@pytest.mark.parametrize("record", [*RECORDS.values(), ScoredMemory(MEMORY, 1.0, 0.5, {"time": 1.0})], ids=repr)
def test_equal_records_are_one_in_a_set(record: Any) -> None:
    twin = copy.deepcopy(record)

    assert {record, twin} == {record}
    assert hash(record) == hash(twin)


def test_records_that_differ_in_anything_are_two_in_a_set() -> None:
    others = [
        replace(MEMORY, key="food"),
        replace(MEMORY, value={"content": "Prefers coffee"}),
        replace(MEMORY, updated_at=START + timedelta(seconds=1)),
    ]

    assert len({MEMORY, *others}) == 4


def test_what_a_search_found_can_be_a_set(store: MemoryStore) -> None:
    for number in range(4):
        store.put("ada", "facts", f"k{number}", {"number": number})

    assert set(store.search("ada")) - set(store.search("ada", limit=1)) == set(store.search("ada", offset=1))
