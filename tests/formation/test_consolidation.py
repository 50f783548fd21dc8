"""Consolidation: a week of episodes becomes its patterns, all of it or nothing, once; near duplicates become one."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from threading import Barrier
from typing import Any

import openai
import pytest
from conftest import DATABASES, START, Clock

import lib.formation.consolidation
from lib.errors import ExtractionFailed, InvalidInput
from lib.formation._duplicates import Merged
from lib.formation.consolidation import MAX_ATTEMPTS, Consolidated, consolidate, merge_near_duplicates
from lib.formation.deduplication import remember_all
from lib.llm.chat import chat_model
from lib.practice.practice_model import PracticeModel
from lib.store.items import Forgotten
from lib.store.memory_store import MemoryStore
from lib.workbook.lesson import day, load_memories

MONDAY = datetime(2026, 3, 16, tzinfo=UTC)  # of week 12
WEEK = MONDAY.date()
DRAWN = {
    "monday": "Ada mixed up stacks and queues, and understood them after a drawing.",
    "tuesday": "Ada mixed up lists and tuples, and understood them after a drawing of boxes.",
    "friday": "Ada solved the exercise alone.",
}


@pytest.fixture
def model(actor: PracticeModel):
    return chat_model(practice=actor, max_retries=0, timeout=10)


@pytest.fixture(autouse=True)
def in_week_13(clock: Clock) -> None:
    clock.time = MONDAY + timedelta(days=9)


def tell(store: MemoryStore, contents: dict[str, str] = DRAWN, *, user: str = "ada", at: datetime = MONDAY) -> None:
    """Episodes, a day after each other."""
    for number, (key, content) in enumerate(contents.items()):
        said_at = (at + timedelta(days=number)).isoformat()
        value = {"content": content, "type": "episodic", "topics": ["python"], "said_at": said_at}
        store.put(user, "episodes", key, value)


def answer(*patterns: dict[str, Any]) -> str:
    usual = {
        "namespace": "facts", "key": "k", "content": "A pattern.", "topics": ["t"], "confidence": 0.8,
        "evidence": ["monday", "tuesday"],
    }  # fmt: skip
    return json.dumps({"patterns": [usual | pattern for pattern in patterns]})


def everything(store: MemoryStore, user: str = "ada") -> tuple[list, list]:
    return list(store.search(user, limit=None)), list(store.archived(user, limit=None))


def archived_episodes(store: MemoryStore) -> list[str]:
    return sorted(item.key for item in store.archived("ada", "episodes", limit=None))


# --- a week ---------------------------------------------------------------------------------------


def test_a_week_becomes_its_patterns_with_their_evidence(model, store: MemoryStore) -> None:
    tell(store)

    done = consolidate(store, "ada", model)

    assert done == Consolidated("2026-W12", episodes=3, stored=2, refused=0, archived=3)
    patterns = {item.key: item for item in store.search("ada")}
    trouble = patterns["pattern_python"]
    assert trouble.namespace == "struggles"
    assert trouble.value == {
        "type": "semantic",
        "content": "The user had trouble with python more than once.",
        "topics": ["python"],
        "confidence": 0.6,
        "evidence": ["monday", "tuesday"],
        "source": "consolidation 2026-W12",
        "said_at": (MONDAY + timedelta(days=4 - 2)).isoformat(),
    }
    assert {item.reason for item in store.archived("ada", "episodes")} == {"consolidated: 2026-W12"}
    assert archived_episodes(store) == ["friday", "monday", "tuesday"]


def test_the_default_is_the_last_week_that_is_over(model, store: MemoryStore, clock: Clock) -> None:
    for weeks in range(3):
        tell(store, {f"a{weeks}": "One.", f"b{weeks}": "Two."}, at=MONDAY + timedelta(weeks=weeks - 1))
    clock.time = MONDAY + timedelta(days=7)

    done = consolidate(store, "ada", model)

    assert (done.week, archived_episodes(store)) == ("2026-W12", ["a1", "b1"])


@pytest.mark.parametrize("any_day", range(7))
def test_a_week_begins_on_monday_at_midnight_utc_and_is_named_by_any_of_its_days(
    model, store: MemoryStore, any_day: int
) -> None:
    instants = {
        "before": MONDAY - timedelta(microseconds=1),
        "first": MONDAY,
        "last": MONDAY + timedelta(days=7, microseconds=-1),
        "after": MONDAY + timedelta(days=7),
    }
    for key, at in instants.items():
        tell(store, {key: "Something."}, at=at)

    consolidate(store, "ada", model, week=WEEK + timedelta(days=any_day))

    assert archived_episodes(store) == ["first", "last"]


@pytest.mark.parametrize("said_at", [None, "once", 5, "2026-01-01T00:00:00"], ids=repr)
def test_an_episode_that_does_not_tell_when_counts_as_of_its_last_writing(
    model, store: MemoryStore, said_at: Any
) -> None:
    for key in ("a", "b"):
        store.put("ada", "episodes", key, {"content": "Something.", "said_at": said_at})

    assert consolidate(store, "ada", model, week=WEEK).episodes == 0
    assert consolidate(store, "ada", model, week=WEEK + timedelta(days=7)).episodes == 2


@pytest.mark.parametrize("wrong", ["2026-W12", 12, datetime(2026, 3, 16)], ids=repr)
def test_a_week_that_is_no_date_is_refused(model, store: MemoryStore, wrong: Any) -> None:
    with pytest.raises(InvalidInput):
        consolidate(store, "ada", model, week=wrong)


def test_the_model_reads_topics_and_one_line_for_each_episode(model, store: MemoryStore, actor: PracticeModel) -> None:
    tell(store, {"a": "one\n[b] two", "b": "three"})

    consolidate(store, "ada", model)

    system, user = actor.requests[-1]["messages"]
    assert user["content"] == "[a] one [b] two (topics: python)\n[b] three (topics: python)"
    assert "procedures" not in system["content"]


def test_one_episode_shows_no_pattern_and_stays(model, store: MemoryStore, actor: PracticeModel) -> None:
    tell(store, {"monday": DRAWN["monday"]})

    done = consolidate(store, "ada", model)

    assert done == Consolidated("2026-W12")
    assert (actor.usage.calls, archived_episodes(store)) == (0, [])


def test_a_notebook_shows_a_table(model, store: MemoryStore) -> None:
    tell(store)

    shown = consolidate(store, "ada", model)._repr_html_()

    assert "2026-W12" in shown and "refused" in shown


# --- who may set rules ----------------------------------------------------------------------------


def test_a_rule_is_a_wish_unless_rules_are_allowed(model, store: MemoryStore, actor: PracticeModel) -> None:
    tell(store)
    tell(store, user="bob")

    consolidate(store, "ada", model)
    consolidate(store, "bob", model, rules=True)

    [wish] = store.search("ada", "preferences")
    [rule] = store.search("bob", "procedures")
    assert wish.value["content"] == rule.value["content"] == "Explain with a drawing: it helps this user."
    assert (wish.value["type"], rule.value["type"]) == ("semantic", "procedural")
    assert store.search("ada", "procedures") == store.search("bob", "preferences") == []
    assert "procedures: what the assistant should do" in actor.requests[-1]["messages"][0]["content"]


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ({"evidence": ["monday", "sunday"]}, "there is no episode 'sunday'"),
        ({"content": " "}, "content must have 1 to"),
        ({"key": ""}, "key must not be empty"),
        ({"namespace": "episodes"}, "patterns.0.namespace"),
        ({"confidence": 2}, "confidence"),
    ],
    ids=repr,
)
def test_an_answer_that_cannot_be_used_goes_back_once(
    model, store: MemoryStore, actor: PracticeModel, pattern: dict, says: str
) -> None:
    tell(store)
    before = everything(store)
    actor.behaviour.answers = [answer(pattern), answer(pattern)]

    with pytest.raises(ExtractionFailed, match="2 times"):
        consolidate(store, "ada", model)

    assert says in actor.requests[-1]["messages"][-1]["content"]
    assert (actor.usage.calls, everything(store)) == (2, before)
    assert consolidate(store, "ada", model).episodes == 3  # later, with a better answer


def test_thin_and_unsure_patterns_are_refused_and_counted(model, store: MemoryStore, actor: PracticeModel) -> None:
    tell(store)
    thin = {"key": "thin", "evidence": ["monday", "monday"]}
    actor.behaviour.answers = [answer({}, thin, {"key": "unsure", "confidence": 0.4})]

    done = consolidate(store, "ada", model)

    assert (done.stored, done.refused) == (1, 2)
    assert [item.key for item in store.search("ada")] == ["pattern_k"]


def test_a_model_that_cannot_be_reached_changes_nothing(model, store: MemoryStore, actor: PracticeModel) -> None:
    tell(store)
    before = everything(store)
    actor.behaviour.failures = ["500"]

    with pytest.raises(openai.InternalServerError):
        consolidate(store, "ada", model)

    assert everything(store) == before


# --- nothing piles up -----------------------------------------------------------------------------


@pytest.mark.parametrize("archive", [True, False], ids=["archived", "left in place"])
def test_a_second_call_changes_nothing_and_asks_no_model(
    model, store: MemoryStore, actor: PracticeModel, archive: bool
) -> None:
    tell(store)
    consolidate(store, "ada", model, archive=archive)
    before, calls = everything(store), actor.usage.calls

    again = consolidate(store, "ada", model, archive=archive)

    assert again == Consolidated("2026-W12")
    assert (actor.usage.calls, everything(store)) == (calls, before)


def test_a_week_without_any_pattern_is_not_asked_about_again(model, store: MemoryStore, actor: PracticeModel) -> None:
    tell(store)
    actor.behaviour.answers = [answer()]

    first = consolidate(store, "ada", model, archive=False)
    second = consolidate(store, "ada", model, archive=False)

    assert (first.episodes, first.stored, second.episodes, actor.usage.calls) == (3, 0, 0, 1)


def test_episodes_that_come_in_late_are_read(model, store: MemoryStore, actor: PracticeModel) -> None:
    tell(store)
    consolidate(store, "ada", model)
    tell(store, {"late": "Ada was stuck on generators.", "later": "Ada was stuck on decorators."})

    done = consolidate(store, "ada", model)

    assert (done.episodes, done.archived) == (2, 2)
    assert "[monday]" not in actor.requests[-1]["messages"][-1]["content"]


def test_a_restored_episode_is_left_where_somebody_put_it(model, store: MemoryStore) -> None:
    tell(store)
    consolidate(store, "ada", model)
    for key in DRAWN:
        store.restore("ada", "episodes", key)

    consolidate(store, "ada", model)

    assert store.list_namespaces("ada")["episodes"] == 3


def test_a_pattern_found_in_two_weeks_is_one_with_the_evidence_of_both(model, store: MemoryStore) -> None:
    tell(store)
    tell(store, {f"next_{key}": content for key, content in DRAWN.items()}, at=MONDAY + timedelta(days=7))

    consolidate(store, "ada", model, week=WEEK)
    once = len(store.search("ada", key_prefix="pattern_"))
    consolidate(store, "ada", model, week=WEEK + timedelta(days=7))

    value = store.get("ada", "struggles", "pattern_python")
    assert value["evidence"] == ["monday", "next_monday", "next_tuesday", "tuesday"]
    assert value["source"] == "consolidation 2026-W13"
    assert len(store.search("ada", key_prefix="pattern_")) == once


def test_an_older_week_adds_evidence_and_overwrites_nothing(model, store: MemoryStore, actor: PracticeModel) -> None:
    tell(store)
    tell(store, {"a": "One.", "b": "Two."}, at=MONDAY + timedelta(days=7))
    same, other = {"content": "Ada learns best from drawings."}, {"key": "other"}
    actor.behaviour.answers = [
        answer(same | {"evidence": ["a", "b"]}, other | {"evidence": ["a", "b"], "content": "Newer words here."}),
        answer(same, other | {"content": "Something else entirely."}),
    ]

    consolidate(store, "ada", model, week=WEEK + timedelta(days=7))
    older = consolidate(store, "ada", model, week=WEEK)

    value = store.get("ada", "facts", "pattern_k")
    assert (older.stored, older.refused) == (1, 1)
    assert (value["evidence"], value["source"]) == (["a", "b", "monday", "tuesday"], "consolidation 2026-W13")
    assert store.get("ada", "facts", "pattern_other")["content"] == "Newer words here."


def test_a_newer_wording_under_the_same_key_replaces_the_older(model, store: MemoryStore, actor: PracticeModel) -> None:
    tell(store)
    tell(store, {"a": "One.", "b": "Two."}, at=MONDAY + timedelta(days=7))
    actor.behaviour.answers = [
        answer({"content": "Ada studies in the morning."}),
        answer({"content": "Ada works late at night.", "evidence": ["a", "b"]}),
    ]

    consolidate(store, "ada", model, week=WEEK)
    consolidate(store, "ada", model, week=WEEK + timedelta(days=7))

    value = store.get("ada", "facts", "pattern_k")
    assert (value["content"], value["evidence"]) == ("Ada works late at night.", ["a", "b"])
    assert len(store.history("ada", "facts", "pattern_k")) == 2


def test_what_the_user_said_is_neither_doubled_nor_replaced_by_a_conclusion(
    model, store: MemoryStore, actor: PracticeModel
) -> None:
    said = {"content": "Ada learns best from drawings.", "confidence": 1.0}
    store.put("ada", "facts", "learning_style", said)
    store.put("ada", "facts", "pattern_mine", {"content": "Ada named this so herself."})
    before = list(store.search("ada"))
    tell(store)
    actor.behaviour.answers = [answer({"content": said["content"]}, {"key": "mine", "content": "Something else."})]

    done = consolidate(store, "ada", model)

    assert (done.stored, done.refused) == (1, 1)
    assert list(store.search("ada", "facts")) == before


@pytest.mark.parametrize(
    "keys",
    [("3  pm", "4 pm"), ("[a", "b]"), ("x\ty", "x\ny"), ("no ", " no"), ("u\u0308ben", "\u00fcben"), ("a_b", "a  b")],
    ids=ascii,
)
def test_episodes_may_have_any_keys(model, store: MemoryStore, actor: PracticeModel, keys: tuple[str, str]) -> None:
    tell(store, dict.fromkeys(keys, "Ada was stuck on joins."))

    done = consolidate(store, "ada", model)

    assert (done.archived, actor.usage.calls) == (2, 1)
    assert store.get("ada", "struggles", "pattern_python")["evidence"] == sorted(keys)


def test_memories_of_the_users_own_where_the_records_are_do_no_harm_and_take_none(model, store: MemoryStore) -> None:
    for value in ({"content": "Mine."}, {"episodes": None}, {"episodes": ["monday", "tuesday", "friday"]}):
        store.put("ada", "consolidations", "2026-W12", value)
        store.archive("ada", [("consolidations", "2026-W12")], reason="of no use any more")
    store.put("ada", "consolidations", "2026-W12", {"content": "Kept."})
    tell(store)

    first, second = consolidate(store, "ada", model), consolidate(store, "ada", model)

    assert (first.archived, second.episodes) == (3, 0)
    assert store.get("ada", "consolidations", "2026-W12") == {"content": "Kept."}
    assert len(store.archived("ada", "consolidations", limit=None)) == 4


# --- all or nothing -------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["remember_all", "put", "archive"])
def test_killed_in_the_middle_a_week_is_whole_or_not_done(
    model, store: MemoryStore, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    tell(store)
    before = everything(store)
    owner: Any = lib.formation.consolidation if where == "remember_all" else MemoryStore
    step = getattr(owner, where)

    def killed(*arguments: Any, **options: Any) -> Any:
        step(*arguments, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(owner, where, killed)
        consolidate(store, "ada", model)

    assert everything(store) == before
    assert consolidate(store, "ada", model).archived == 3


def test_two_at_once_consolidate_a_week_once(model, store: MemoryStore, actor: PracticeModel) -> None:
    tell(store)
    barrier = Barrier(4, timeout=20)

    def work(_: int) -> Consolidated:
        barrier.wait()
        return consolidate(store, "ada", model)

    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(work, range(4)))

    assert sorted(one.archived for one in done) == [0, 0, 0, 3]
    assert sum(one.stored for one in done) == 2
    assert len(store.archived("ada", "consolidations")) == 1
    assert [len(item.value["evidence"]) for item in store.search("ada")] == [2, 2]
    assert 1 <= actor.usage.calls <= 4


class Meddling:
    """A model that has something happen while it thinks."""

    def __init__(self, model: Any, happens: Callable[[], Any]):
        self._model, self._happens = model, happens

    def bind(self, **options: Any) -> "Meddling":
        return Meddling(self._model.bind(**options), self._happens)

    def invoke(self, messages: Any) -> Any:
        self._happens()
        return self._model.invoke(messages)


def test_an_episode_that_changes_while_the_model_reads_is_read_again(
    model, store: MemoryStore, actor: PracticeModel
) -> None:
    tell(store)
    changes = iter([{"friday": "Ada was stuck on recursion."}])

    done = consolidate(store, "ada", Meddling(model, lambda: tell(store, next(changes, {}))))

    assert (done.episodes, actor.usage.calls) == (3, 2)
    assert "stuck on recursion" in actor.requests[-1]["messages"][-1]["content"]


def test_a_week_that_never_comes_to_rest_is_given_up(model, store: MemoryStore, actor: PracticeModel) -> None:
    tell(store)
    numbers = iter(range(100))

    with pytest.raises(ExtractionFailed, match="changed while the model read them"):
        consolidate(store, "ada", Meddling(model, lambda: tell(store, {"friday": f"Change {next(numbers)}."})))

    assert (actor.usage.calls, archived_episodes(store)) == (MAX_ATTEMPTS, [])


def test_a_user_forgotten_while_the_model_reads_stays_forgotten(model, store: MemoryStore) -> None:
    tell(store)

    done = consolidate(store, "ada", Meddling(model, lambda: store.forget_user("ada")))

    assert done == Consolidated("2026-W12")
    assert everything(store) == ([], [])


def test_other_users_are_left_alone_and_a_user_is_forgotten_whole(model, store: MemoryStore) -> None:
    tell(store)
    tell(store, user="bob")
    before = everything(store, "bob")

    consolidate(store, "ada", model)

    assert everything(store, "bob") == before
    assert store.forget_user("ada") == Forgotten(memories=2, sessions=0, cached_contents=0, versions=0, archived=4)
    assert everything(store) == ([], [])


# --- near duplicates ------------------------------------------------------------------------------

CAT = "Ada has a cat called Pixel."
BLACK_CAT = "Ada has a black cat called Pixel."


def duplicates(store: MemoryStore, clock: Clock, user: str = "ada") -> None:
    store.put(user, "facts", "cat", {"content": CAT, "confidence": 1.0, "topics": ["home", "cat"]})
    clock.advance(hours=1)
    store.put(user, "facts", "pet", {"content": BLACK_CAT, "confidence": 0.7, "topics": ["pets", "home"]})


def test_the_newest_stays_with_the_higher_confidence_and_the_topics_of_both(store: MemoryStore, clock: Clock) -> None:
    duplicates(store, clock)

    merged = merge_near_duplicates(store, "ada")

    assert merged == [Merged("facts", "pet", ("cat",))]
    [item] = store.search("ada")
    assert item.value == {"content": BLACK_CAT, "confidence": 1.0, "topics": ["pets", "home", "cat"]}
    [gone] = store.archived("ada")
    assert (gone.key, gone.reason) == ("cat", "says the same as facts/pet")


def test_a_second_merge_finds_nothing_to_do(store: MemoryStore, clock: Clock) -> None:
    duplicates(store, clock)
    store.put("ada", "facts", "third", {"content": CAT})
    merge_near_duplicates(store, "ada")
    before = everything(store)

    assert merge_near_duplicates(store, "ada") == []
    assert everything(store) == before


@pytest.mark.parametrize("namespace", ["episodes", "sessions"])
def test_events_that_went_alike_stay_two(store: MemoryStore, namespace: str) -> None:
    for key in ("monday", "tuesday"):
        store.put("ada", namespace, key, {"content": "Ada solved the exercise alone."})

    assert merge_near_duplicates(store, "ada") == []


def test_what_differs_stands_in_two_namespaces_or_has_no_content_stays(store: MemoryStore) -> None:
    store.put("ada", "facts", "exam", {"content": "The exam in Lund is on 22 May."})
    store.put("ada", "facts", "other_exam", {"content": "The exam in Lund is on 23 May."})
    store.put("ada", "goals", "exam", {"content": "The exam in Lund is on 22 May."})
    store.put("ada", "facts", "a", {"n": 1})
    store.put("ada", "facts", "b", {"n": 1})

    assert merge_near_duplicates(store, "ada") == []


def test_what_is_the_same_may_be_told_by_another_function(store: MemoryStore) -> None:
    for key, content in {"a": "Likes tea", "b": "likes TEA", "c": "Is fond of tea"}.items():
        store.put("ada", "preferences", key, {"content": content})

    merged = merge_near_duplicates(store, "ada", same=lambda one, other: one[-3:].lower() == other[-3:].lower())

    assert merged == [Merged("preferences", "c", ("b", "a"))]


def test_the_one_that_stays_keeps_its_end(store: MemoryStore, clock: Clock) -> None:
    store.put("ada", "facts", "cat", {"content": CAT, "confidence": 1.0})
    end = clock.advance(hours=1) + timedelta(days=1)
    store.put("ada", "facts", "pet", {"content": BLACK_CAT, "confidence": 0.7}, expires_at=end)

    merge_near_duplicates(store, "ada")

    assert [item.expires_at for item in store.search("ada")] == [end]


def test_evidence_of_merged_patterns_is_joined(store: MemoryStore) -> None:
    for key, evidence in {"pattern_a": ["x", "y"], "pattern_b": ["y", "z"]}.items():
        store.put("ada", "facts", key, {"content": CAT, "evidence": evidence})

    merge_near_duplicates(store, "ada")

    assert [item.value["evidence"] for item in store.search("ada")] == [["x", "y", "z"]]


def test_killed_in_the_middle_of_a_merge_nothing_is_changed(
    store: MemoryStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    duplicates(store, clock)
    before = everything(store)

    def killed(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(MemoryStore, "archive", killed)
        merge_near_duplicates(store, "ada")

    assert everything(store) == before


def test_what_changes_during_the_comparison_is_left_for_the_next_time(store: MemoryStore, clock: Clock) -> None:
    duplicates(store, clock)

    def same(one: str, other: str) -> bool:
        store.put("ada", "facts", "cat", {"content": "Ada gave her cat away."})
        return True

    assert merge_near_duplicates(store, "ada", same=same) == []
    assert len(store.search("ada")) == 2


def test_two_at_once_merge_once_and_other_users_are_left_alone(store: MemoryStore, clock: Clock) -> None:
    duplicates(store, clock)
    duplicates(store, clock, "bob")
    before = everything(store, "bob")
    barrier = Barrier(4, timeout=20)

    def work(_: int) -> list[Merged]:
        barrier.wait()
        return merge_near_duplicates(store, "ada")

    with ThreadPoolExecutor(4) as pool:
        merged = [one for found in pool.map(work, range(4)) for one in found]

    assert merged == [Merged("facts", "pet", ("cat",))]
    assert len(store.archived("ada")) == 1
    assert everything(store, "bob") == before


# --- conclusions in remember_all ------------------------------------------------------------------


def test_a_conclusion_needs_no_turn_and_keeps_its_evidence(store: MemoryStore) -> None:
    memory = {
        "namespace": "facts", "key": "k", "content": "A pattern.", "type": "semantic", "topics": [],
        "confidence": 0.8, "evidence": ["x", "y"],
    }  # fmt: skip

    counts = remember_all(store, "ada", [memory, memory], source="here", said_at=START)

    assert (counts.new, counts.said_again) == (1, 1)
    assert store.get("ada", "facts", "k")["evidence"] == ["x", "y"]


# --- on the data ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", DATABASES)
def test_half_a_year_of_the_data_is_consolidated_week_by_week_once(
    model, store: MemoryStore, clock: Clock, actor: PracticeModel, kind: str
) -> None:
    for memory in load_memories("zoe"):
        clock.time = day(memory["valid_from"])
        value = {name: memory[name] for name in ("type", "content", "topics", "confidence")}
        store.put("zoe", memory["namespace"], memory["key"], value)
    weeks = [date(2026, 3, 2) + timedelta(weeks=number) for number in range(26)]

    first = [consolidate(store, "zoe", model, week=week) for week in weeks]
    calls = actor.usage.calls
    second = [consolidate(store, "zoe", model, week=week) for week in weeks]

    assert [one.week for one in first if one.episodes] == ["2026-W10", "2026-W19"]
    assert [one.archived for one in first if one.episodes] == [3, 0]  # the second week showed nothing, and stays
    drawing = store.get("zoe", "preferences", "pattern_drawing")
    assert drawing["evidence"] == ["session_2026_03_03", "session_2026_03_05", "session_2026_03_06"]
    assert (actor.usage.calls, sum(one.episodes for one in second)) == (calls, 0)
