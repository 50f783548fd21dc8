"""The data files keep the promises of data/README.md."""

import csv
import json
import re
import runpy
import unicodedata
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parents[2] / "data"
PEOPLE = ("zoe", "tomas", "amelie")
NAMESPACES = {
    "semantic": {"facts", "preferences", "goals", "struggles"},
    "episodic": {"episodes"},
    "procedural": {"procedures"},
}
MEMORY_FIELDS = [
    "id", "person", "type", "namespace", "key", "content", "topics", "confidence",
    "source_session", "source_turn", "valid_from", "superseded_by",
]  # fmt: skip


def read(name: str) -> list[dict]:
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


def moment(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


SESSIONS = {session["session"]: session for session in read("conversations.jsonl")}
MEMORIES = {memory["id"]: memory for memory in read("memories.jsonl")}


@pytest.mark.parametrize("person", PEOPLE)
def test_each_person_has_twelve_sessions_of_eight_turns_over_half_a_year(person):
    sessions = [session for session in SESSIONS.values() if session["person"] == person]

    assert len(sessions) >= 12
    assert all(len(session["turns"]) >= 8 for session in sessions)
    starts = [moment(session["started_at"]) for session in sessions]
    assert starts == sorted(starts)
    assert starts[-1] - starts[0] >= timedelta(days=170)


def test_sessions_have_the_documented_fields_and_alternating_speakers():
    for session in SESSIONS.values():
        assert list(session) == ["person", "session", "started_at", "ended_at", "turns"]
        assert moment(session["started_at"]) < moment(session["ended_at"])
        for number, turn in enumerate(session["turns"], 1):
            assert list(turn) == ["turn", "speaker", "text"]
            assert turn["turn"] == number
            assert turn["speaker"] == ("user" if number % 2 else "assistant")


def test_memories_have_the_documented_fields_and_ranges():
    for memory in MEMORIES.values():
        assert list(memory) == MEMORY_FIELDS
        assert memory["person"] in PEOPLE
        assert memory["namespace"] in NAMESPACES[memory["type"]]
        assert re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", memory["key"])
        assert 10 <= len(memory["content"]) <= 300
        assert 1 <= len(memory["topics"]) <= 4
        assert 0 < memory["confidence"] <= 1


def test_every_memory_comes_from_a_turn_of_its_own_person():
    for memory in MEMORIES.values():
        session = SESSIONS[memory["source_session"]]

        assert session["person"] == memory["person"]
        assert 1 <= memory["source_turn"] <= len(session["turns"])
        assert moment(session["started_at"]) <= moment(memory["valid_from"]) <= moment(session["ended_at"])
        if memory["type"] == "semantic":
            assert session["turns"][memory["source_turn"] - 1]["speaker"] == "user"


def test_a_memory_is_superseded_by_a_later_one_at_the_same_address():
    for memory in MEMORIES.values():
        if memory["superseded_by"]:
            newer = MEMORIES[memory["superseded_by"]]
            address = ("person", "namespace", "key")

            assert [newer[field] for field in address] == [memory[field] for field in address]
            assert moment(newer["valid_from"]) > moment(memory["valid_from"])


def test_an_address_has_one_current_memory():
    current = Counter((m["person"], m["namespace"], m["key"]) for m in MEMORIES.values() if not m["superseded_by"])

    assert set(current.values()) == {1}


def test_texts_are_in_normal_form_and_said_once():
    texts = [turn["text"] for session in SESSIONS.values() for turn in session["turns"]]
    texts += [memory["content"] for memory in MEMORIES.values()]

    assert len(texts) == len(set(texts))
    assert all(unicodedata.is_normalized("NFC", text) for text in texts)


def test_the_data_sheet_states_the_counts():
    sheet = (DATA / "README.md").read_text(encoding="utf-8")

    for person in PEOPLE:
        sessions = [session for session in SESSIONS.values() if session["person"] == person]
        turns = sum(len(session["turns"]) for session in sessions)
        memories = [memory for memory in MEMORIES.values() if memory["person"] == person]
        replaced = sum(bool(memory["superseded_by"]) for memory in memories)
        assert f"| {person} | {len(sessions)} | {turns} | {len(memories)} | {replaced} |" in sheet


KINDS = {"same_words": 33, "paraphrase": 45, "changed_fact": 42, "time": 21, "several": 18, "nothing": 42}


def test_questions_have_the_documented_fields_kinds_and_splits():
    questions = read("questions.jsonl")

    assert Counter(question["kind"] for question in questions) == KINDS
    assert Counter(question["split"] for question in questions) == {"dev": 105, "test": 96}
    assert len({question["id"] for question in questions}) == len({q["question"] for q in questions}) == len(questions)
    for question in questions:
        assert list(question) == ["id", "person", "kind", "question", "answers", "split"]
        assert re.fullmatch(rf"{question['person']}-q\d{{3}}", question["id"])


def test_a_question_is_answered_by_memories_of_its_own_person():
    for question in read("questions.jsonl"):
        answers = question["answers"]
        least, most = {"nothing": (0, 0), "several": (2, 4), "time": (1, 4)}.get(question["kind"], (1, 1))
        assert least <= len(set(answers)) == len(answers) <= most, question
        assert all(MEMORIES[answer]["person"] == question["person"] for answer in answers), question


def test_a_changed_fact_is_answered_by_its_newest_version_and_has_older_ones():
    replaced = {memory["superseded_by"] for memory in MEMORIES.values()}

    for question in read("questions.jsonl"):
        if question["kind"] == "changed_fact":
            [answer] = question["answers"]
            assert MEMORIES[answer]["superseded_by"] is None and answer in replaced, question


def test_moments_have_the_documented_fields_and_use_memories_that_stand():
    moments = read("moments.jsonl")

    assert Counter(moment["split"] for moment in moments) == {"dev": 33, "test": 33}
    assert sum(not moment["memories"] for moment in moments) == 30
    assert len({moment["id"] for moment in moments}) == len({moment["turn"] for moment in moments}) == len(moments)
    for moment in moments:
        assert list(moment) == ["id", "person", "turn", "memories", "why", "split"]
        for memory in moment["memories"]:
            assert MEMORIES[memory]["person"] == moment["person"], moment
            assert MEMORIES[memory]["superseded_by"] is None, moment


def test_the_data_sheet_states_the_counts_of_questions_and_moments():
    sheet = (DATA / "README.md").read_text(encoding="utf-8")

    assert f"{sum(KINDS.values())} questions" in sheet and "66 turns" in sheet
    assert all(re.search(rf"`{kind}` \({count}\b", sheet) for kind, count in KINDS.items())


def test_requests_have_the_documented_fields_and_ranges():
    with (DATA / "requests.csv").open(encoding="utf-8", newline="") as file:
        requests = list(csv.DictReader(file))
    times = [moment(request["time"]) for request in requests]

    assert len(requests) == 5000
    assert list(requests[0]) == ["time", "user", "topic", "level", "tokens"]
    assert times == sorted(times)
    assert timedelta(days=27) < times[-1] - times[0] < timedelta(days=28)
    assert {request["level"] for request in requests} == {"beginner", "intermediate", "advanced"}
    assert set(PEOPLE) < {request["user"] for request in requests}
    assert all(150 <= int(request["tokens"]) < 850 for request in requests)
    contents = {(request["topic"], request["level"]) for request in requests}
    assert len({(r["topic"], r["level"], r["tokens"]) for r in requests}) == len(contents), "a content has one price"


def test_few_topics_are_asked_for_much_and_more_is_asked_by_day():
    with (DATA / "requests.csv").open(encoding="utf-8", newline="") as file:
        requests = list(csv.DictReader(file))
    topics = [count for _, count in Counter(request["topic"] for request in requests).most_common()]
    hours = Counter(moment(request["time"]).hour for request in requests)

    assert len(topics) == 120
    assert 1.5 < topics[0] / topics[1] < 3 and topics[0] > 15 * topics[30]
    assert hours[10] > 5 * hours[3]


def test_the_script_writes_the_same_requests_again(tmp_path):
    main = runpy.run_path(str(DATA / "make_requests.py"))["main"]

    main(tmp_path / "again.csv")

    assert (tmp_path / "again.csv").read_bytes() == (DATA / "requests.csv").read_bytes()


def test_the_data_sheet_states_the_counts_of_requests():
    with (DATA / "requests.csv").open(encoding="utf-8", newline="") as file:
        requests = list(csv.DictReader(file))
    sheet = (DATA / "README.md").read_text(encoding="utf-8")

    contents = len({(request["topic"], request["level"]) for request in requests})
    users = len({request["user"] for request in requests})
    assert f"{len(requests):,} requests of {users} users" in sheet and f"{contents} different lessons" in sheet
