"""Rules learned from episodes: with evidence that exists, beside the rules that the user set, all of them or none."""

import json
from typing import Any

import pytest

from lib.errors import InvalidInput
from lib.formation.procedures import learn_procedures
from lib.llm.chat import chat_model
from lib.practice.practice_model import PracticeModel
from lib.store.memory_store import MemoryStore


@pytest.fixture
def model(actor: PracticeModel):
    return chat_model(practice=actor, max_retries=0, timeout=10)


def answer(*rules: str, evidence: tuple[str, ...] = ("monday", "tuesday")) -> str:
    patterns = [{"rule": rule, "evidence": list(evidence), "confidence": 1.0} for rule in rules]
    return json.dumps({"patterns": patterns})


def rules_of(store: MemoryStore) -> dict[str, str]:
    return {item.key: item.value["content"] for item in store.search("ada", "procedures", limit=None)}


def episodes(store: MemoryStore, **contents: str) -> None:
    for key, content in contents.items():
        store.put("ada", "episodes", key, {"content": content, "type": "episodic", "topics": ["python"]})


def test_a_rule_is_learned_with_its_evidence(model, store: MemoryStore) -> None:
    episodes(
        store,
        monday="Ada mixed up stacks and queues, and understood them after a drawing.",
        tuesday="Ada mixed up lists and tuples, and understood them after a drawing of boxes.",
        friday="Ada solved the exercise alone.",
    )

    learned = learn_procedures(model, store, "ada")

    assert learned
    for item in learned:
        assert item.namespace == "procedures"
        assert len(item.value["evidence"]) >= 2 and set(item.value["evidence"]) <= {"monday", "tuesday", "friday"}


def test_evidence_that_does_not_exist_or_is_too_thin_teaches_nothing(
    model, store: MemoryStore, actor: PracticeModel
) -> None:
    episodes(store, monday="Ada mixed up stacks and queues.", tuesday="Ada did well.")
    store.put("ada", "procedures", "by_hand", {"content": "Be brief."})
    rules = [("made up", ["monday", "sunday"], 0.9), ("thin", ["monday"], 0.9), ("unsure", ["monday", "tuesday"], 0.1)]
    patterns = [{"rule": rule, "evidence": evidence, "confidence": sure} for rule, evidence, sure in rules]
    actor.behaviour.answers = [json.dumps({"patterns": patterns})]

    assert learn_procedures(model, store, "ada") == []
    assert [item.key for item in store.search("ada", "procedures")] == ["by_hand"]


def test_learning_again_replaces_what_was_learned(model, store: MemoryStore, actor: PracticeModel) -> None:
    episodes(store, monday="one", tuesday="two")
    store.put("ada", "procedures", "by_hand", {"content": "Be brief."})

    actor.behaviour.answers = [answer("a", "b"), answer("c")]
    learn_procedures(model, store, "ada")

    learn_procedures(model, store, "ada")

    assert rules_of(store) == {"by_hand": "Be brief.", "learned_1": "c"}


def test_rules_of_the_user_stay_whatever_their_keys(model, store: MemoryStore, actor: PracticeModel) -> None:
    episodes(store, monday="one", tuesday="two")
    mine = {"learned_2": "Never call before ten.", "learned_by_heart": "Recite it.", "learned_": "Say less."}
    for key, content in mine.items():
        store.put("ada", "procedures", key, {"content": content, "source": "chat 7"})
    actor.behaviour.answers = [answer("a", "b", "c"), answer("d", "e"), answer()]

    after = []
    for _ in range(3):
        learn_procedures(model, store, "ada")
        after.append(rules_of(store))

    assert after[0] == mine | {"learned_1": "a", "learned_3": "b", "learned_4": "c"}
    assert after[1] == mine | {"learned_1": "d", "learned_3": "e"}
    assert after[2] == mine


@pytest.mark.parametrize("step", ["put", "delete"])
def test_killed_in_the_middle_the_old_rules_stand(
    model, store: MemoryStore, actor: PracticeModel, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    episodes(store, monday="one", tuesday="two")
    actor.behaviour.answers = [answer("a", "b", "c"), answer("d")]
    learn_procedures(model, store, "ada")
    before = store.search("ada", limit=None)
    real = getattr(MemoryStore, step)

    def killed(*arguments: Any, **options: Any) -> None:
        real(*arguments, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(MemoryStore, step, killed)
        learn_procedures(model, store, "ada")

    assert store.search("ada", limit=None) == before


@pytest.mark.parametrize(
    ("topics", "told"),
    [("git", ["git"]), (None, []), (7, []), ({"git": 1}, []), (["git", None, 3, "bash"], ["bash", "git"]), ([], [])],
    ids=repr,
)
def test_topics_of_an_episode_may_be_anything(
    model, store: MemoryStore, actor: PracticeModel, topics: Any, told: list[str]
) -> None:
    for key in ("monday", "tuesday"):
        store.put("ada", "episodes", key, {"content": "one", "topics": topics})
    actor.behaviour.answers = [answer("a")]

    [rule] = learn_procedures(model, store, "ada")

    assert rule.value["topics"] == told


def test_an_episode_may_have_any_key(model, store: MemoryStore) -> None:
    keys = ["8  pm, tired", "8 pm, tired", "[draft] 3", "a]b", "tab\there", " é\u0301 "]
    for key in keys:
        store.put("ada", "episodes", key, {"content": "Ada mixed up hosts, and got it after a drawing."})

    learned = learn_procedures(model, store, "ada")

    assert learned and learned[0].value["evidence"] == sorted(keys)


@pytest.mark.parametrize("wrong", [-0.1, 1.5, float("nan"), True, "0.5"], ids=repr)
def test_a_confidence_that_is_none_is_refused_and_nothing_is_forgotten(
    model, store: MemoryStore, actor: PracticeModel, wrong: Any
) -> None:
    episodes(store, monday="one", tuesday="two")
    actor.behaviour.answers = [answer("a")]
    learn_procedures(model, store, "ada")

    with pytest.raises(InvalidInput, match="min_confidence must be"):
        learn_procedures(model, store, "ada", min_confidence=wrong)

    assert rules_of(store) == {"learned_1": "a"}
