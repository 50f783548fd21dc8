"""A conversation by each pattern: what the model sees, what it costs, and that a failed turn leaves no trace."""

from collections.abc import Iterator

import pytest
from conftest import Clock
from openai import APIError

from lib.agent.conversation import PATTERNS, Conversation
from lib.errors import InvalidInput
from lib.llm.chat import chat_model
from lib.practice.practice_model import PracticeModel, start_practice_model
from lib.store.memory_store import MemoryStore

ASKED = "When is my exam?"
ANNOUNCED = "I'll ask the company to pay the exam fee for my second attempt, too."


@pytest.fixture(scope="module")
def server() -> Iterator[PracticeModel]:
    with start_practice_model() as server:
        yield server


@pytest.fixture
def actor(server: PracticeModel) -> Iterator[PracticeModel]:
    """The practice model, which a test may tell to behave badly."""
    server.requests.clear()
    yield server
    server.behaviour.answers, server.behaviour.failures = [], []


@pytest.fixture
def known(store: MemoryStore) -> MemoryStore:
    store.put("ada", "facts", "exam", {"content": "Ada's exam is on Friday 22 May 2026.", "type": "semantic"})
    store.put("ada", "facts", "fee", {"content": "Ada's company pays the exam fee for the first attempt only."})
    store.put("ada", "facts", "cat", {"content": "Ada has a cat called Pixel."})
    store.put("ada", "procedures", "short", {"content": "Be brief."})
    return store


def conversation(store: MemoryStore, actor: PracticeModel, pattern: str, **options: object) -> Conversation:
    return Conversation(chat_model(practice=actor, max_retries=0), store, "ada", pattern=pattern, **options)


def keys(answer) -> list[str]:
    return [scored.item.key for scored in answer.memories]


def test_without_a_pattern_of_memory_the_model_knows_nothing(known: MemoryStore, actor: PracticeModel) -> None:
    answer = conversation(known, actor, "none").say(ASKED)

    assert "don't know" in answer.text
    assert (keys(answer), answer.calls) == ([], 1)


def test_at_the_start_all_that_fits_stands_in_the_prompt(known: MemoryStore, actor: PracticeModel) -> None:
    answer = conversation(known, actor, "at the start").say(ASKED)

    assert "22 May 2026" in answer.text
    assert set(keys(answer)) == {"short", "cat", "fee", "exam"} and keys(answer)[0] == "short"
    assert answer.calls == 1 and answer.left_out == []


def test_a_small_budget_leaves_out_and_says_so(known: MemoryStore, actor: PracticeModel) -> None:
    answer = conversation(known, actor, "at the start", budget_tokens=110).say(ASKED)

    assert len(answer.memories) + len(answer.left_out) == 4 and answer.left_out
    assert answer.prompt_tokens < 130


def test_the_prompt_of_the_start_stays_the_same_in_later_turns(
    known: MemoryStore, actor: PracticeModel, clock: Clock
) -> None:
    talk = conversation(known, actor, "at the start")
    talk.say(ASKED)
    clock.advance(hours=1)
    known.put("ada", "facts", "new", {"content": "Ada has moved."})

    talk.say("And what is my cat called?")

    first, second = (request["messages"] for request in actor.requests)
    assert first[0] == second[0]
    assert [message["role"] for message in second] == ["system", "user", "assistant", "user"]


def test_on_demand_the_model_looks_up_what_is_asked(known: MemoryStore, actor: PracticeModel) -> None:
    answer = conversation(known, actor, "on demand").say(ASKED)

    assert "22 May 2026" in answer.text
    assert keys(answer)[0] == "exam" and answer.memories[0].contributions["lexical"] > 0
    assert answer.calls == 2


def test_on_demand_nothing_is_looked_up_for_a_greeting(known: MemoryStore, actor: PracticeModel) -> None:
    answer = conversation(known, actor, "on demand").say("Good morning!")

    assert (keys(answer), answer.calls) == ([], 1)


def test_proactive_brings_up_what_nobody_asked_for(known: MemoryStore, actor: PracticeModel) -> None:
    talk = conversation(known, actor, "proactive")

    announced = talk.say(ANNOUNCED)
    greeting = talk.say("Thanks, have a nice evening!")

    assert "By the way, I remember: Ada's company pays the exam fee for the first attempt only." in announced.text
    assert (keys(announced), announced.calls) == (["fee"], 1)
    assert keys(greeting) == [] and "By the way" not in greeting.text


@pytest.mark.parametrize("pattern", PATTERNS)
def test_tokens_are_those_that_the_endpoint_counted(known: MemoryStore, actor: PracticeModel, pattern: str) -> None:
    before = actor.usage.prompt_tokens
    calls = actor.usage.calls

    answer = conversation(known, actor, pattern).say(ASKED)

    assert answer.prompt_tokens == actor.usage.prompt_tokens - before
    assert answer.calls == actor.usage.calls - calls


def test_the_pattern_can_be_switched_between_turns(known: MemoryStore, actor: PracticeModel) -> None:
    talk = conversation(known, actor, "none")
    without = talk.say(ASKED)

    with_tool = talk.say("So when is my exam?", pattern="on demand")
    later = talk.say("What is my cat called?")

    assert [without.pattern, with_tool.pattern, later.pattern] == ["none", "on demand", "on demand"]
    assert "22 May" in with_tool.text and "Pixel" in later.text
    assert [role for role, _ in talk.history] == ["user", "assistant"] * 3


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_turn_that_fails_counts_as_not_said(known: MemoryStore, actor: PracticeModel, pattern: str) -> None:
    talk = conversation(known, actor, pattern)
    actor.behaviour.failures = ["500"]

    with pytest.raises(APIError):
        talk.say(ASKED)

    assert talk.history == []
    assert talk.say(ASKED).text


def test_one_user_never_sees_another_ones_memories(known: MemoryStore, actor: PracticeModel) -> None:
    model = chat_model(practice=actor)

    seen = [Conversation(model, known, "eve", pattern=name).say(ASKED).memories for name in PATTERNS]

    assert seen == [[], [], [], []]


@pytest.mark.parametrize("text", ["", "  ", None])
def test_something_must_be_said(store: MemoryStore, actor: PracticeModel, text: object) -> None:
    with pytest.raises(InvalidInput, match="say something"):
        conversation(store, actor, "none").say(text)


def test_an_unknown_pattern_is_refused_with_those_that_there_are(store: MemoryStore, actor: PracticeModel) -> None:
    with pytest.raises(InvalidInput, match="'on demand', 'proactive', not 'always'"):
        conversation(store, actor, "always")
    with pytest.raises(InvalidInput, match="not 'never'"):
        conversation(store, actor, "none").say("Hello", pattern="never")


@pytest.mark.parametrize("wrong", [0, -5, True, 99.5, None], ids=repr)
def test_a_budget_that_is_none_is_refused_when_the_conversation_begins(store: MemoryStore, wrong: object) -> None:
    with pytest.raises(InvalidInput, match="budget_tokens must be"):
        Conversation(None, store, "ada", pattern="none", budget_tokens=wrong)
