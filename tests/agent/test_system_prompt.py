"""What a prompt holds: what was asked for, newest first, rules as rules and everything else as data."""

import json
import pickle

import pytest
from conftest import Clock

from lib.agent._budget import approximate_tokens
from lib.agent.prompt_quoting import BEGIN, END
from lib.agent.system_prompt import BRING_UP, Prompt, adapt, build_system_prompt, proactive_memories, proactive_prompt
from lib.errors import InvalidInput
from lib.llm.chat import chat_model
from lib.practice.practice_model import start_practice_model
from lib.retrieval.scored_memory import ScoredList
from lib.store.memory_store import MemoryStore


def test_without_memories_a_prompt_is_the_role_alone(store: MemoryStore) -> None:
    assert build_system_prompt(store, "ada", "You are a tutor.", namespaces=["facts"]) == "You are a tutor."


def test_only_the_namespaces_asked_for_are_in_it_and_only_of_the_user(store: MemoryStore) -> None:
    store.put("ada", "facts", "cat", {"content": "Has a cat."})
    store.put("ada", "goals", "exam", {"content": "Wants to pass."})
    store.put("eve", "facts", "dog", {"content": "Has a dog."})

    prompt = build_system_prompt(store, "ada", "Tutor.", namespaces=["facts"])

    assert "Has a cat." in prompt
    assert "Wants to pass." not in prompt and "dog" not in prompt


def test_rules_stand_before_the_quotations_and_never_break_their_line(store: MemoryStore) -> None:
    store.put("ada", "facts", "cat", {"content": "Has a cat."})
    store.put("ada", "procedures", "short", {"content": f"Be\nbrief. {BEGIN}"})

    prompt = build_system_prompt(store, "ada", "Tutor.", namespaces=["procedures", "facts"])

    rules, quoted = prompt.split("\n\n")[1:]
    assert rules.splitlines()[1].startswith("- Be brief.")
    assert len(rules.splitlines()) == 2
    assert quoted.endswith(END)


def test_rules_are_left_out_where_they_are_not_asked_for(store: MemoryStore) -> None:
    store.put("ada", "procedures", "short", {"content": "Be brief."})

    assert "brief" not in build_system_prompt(store, "ada", "Tutor.", namespaces=["facts"])


@pytest.mark.parametrize("query", [None, "What happened on Monday?"])
def test_a_limit_of_nothing_leaves_the_rules_alone(store: MemoryStore, query: str | None) -> None:
    store.put("ada", "procedures", "short", {"content": "Be brief."})
    for namespace in ("facts", "episodes"):
        store.put("ada", namespace, "monday", {"content": "It rained on Monday."})
    namespaces = ["procedures", "episodes", "facts"]

    prompt = build_system_prompt(store, "ada", "Tutor.", namespaces=namespaces, query=query, limit=0)

    assert "Be brief." in prompt and "Monday" not in prompt


@pytest.mark.parametrize("wrong", [-3, True, False, 2.5, None, "3", float("nan")], ids=repr)
@pytest.mark.parametrize("namespaces", [["procedures"], ["episodes"]], ids=str)
def test_a_limit_that_is_no_count_is_refused_even_if_there_is_nothing(
    store: MemoryStore, namespaces: list[str], wrong: object
) -> None:
    with pytest.raises(InvalidInput, match="limit must be"):
        build_system_prompt(store, "ada", "Tutor.", namespaces=namespaces, limit=wrong)
    with pytest.raises(InvalidInput, match="limit must be"):
        proactive_memories(store, "ada", "Hello", limit=wrong)


def test_the_newest_come_in_and_of_episodes_a_third_as_many(store: MemoryStore, clock: Clock) -> None:
    for namespace in ("facts", "episodes"):
        for number in range(12):
            store.put("ada", namespace, f"k{number}", {"content": f"{namespace} number {number}."})

    prompt = build_system_prompt(store, "ada", "Tutor.", namespaces=["facts", "episodes"], limit=6)

    assert prompt.count("facts number") == 6 and prompt.count("episodes number") == 2
    assert "facts number 11." in prompt and "facts number 0." not in prompt


# --- What went in, and what didn't ------------------------------------------------------------------


def test_a_prompt_is_a_text_that_knows_what_is_in_it(store: MemoryStore) -> None:
    store.put("ada", "facts", "cat", {"content": "Has a cat."})
    store.put("ada", "procedures", "short", {"content": "Be brief."})

    prompt = build_system_prompt(store, "ada", "Tutor.", namespaces=["facts", "procedures"])

    assert isinstance(prompt, str) and json.loads(json.dumps(prompt)) == prompt
    assert [scored.item.key for scored in prompt.used] == ["short", "cat"]
    assert prompt.used.explain().rows[0]["note"] == "a rule: always in the prompt"
    assert prompt.left_out == []
    assert prompt.tokens == approximate_tokens(prompt)
    assert pickle.loads(pickle.dumps(prompt)).used == prompt.used


def test_tokens_are_counted_as_langchain_counts_them() -> None:
    from langchain_core.messages import HumanMessage, SystemMessage
    from langchain_core.messages.utils import count_tokens_approximately

    for text in ("", "Tutor.", "Zoë lives in Malmö. " * 50):
        assert approximate_tokens(text) == count_tokens_approximately([SystemMessage(text)])
        assert approximate_tokens(text, "user") == count_tokens_approximately([HumanMessage(text)])


@pytest.mark.parametrize("budget", [1000, 200, 120, 60])
def test_a_budget_is_kept_and_the_newest_go_in(store: MemoryStore, clock: Clock, budget: int) -> None:
    for number in range(20):
        clock.advance(hours=1)
        store.put("ada", "facts" if number % 2 else "goals", f"k{number:02}", {"content": f"Number {number}."})

    prompt = build_system_prompt(store, "ada", "Tutor.", namespaces=["facts", "goals"], budget_tokens=budget, limit=20)

    assert prompt.tokens <= budget
    assert len(prompt.used) + len(prompt.left_out) == 20
    assert all(used.item.key > left.item.key for used in prompt.used for left in prompt.left_out)
    assert [left.item.key for left in prompt.left_out] == sorted((s.item.key for s in prompt.left_out), reverse=True)
    assert [one.item.namespace for one in prompt.used] == sorted(one.item.namespace for one in prompt.used)


def test_a_memory_that_is_too_long_leaves_its_room_to_shorter_ones(store: MemoryStore, clock: Clock) -> None:
    store.put("ada", "facts", "short", {"content": "Has a cat."})
    clock.advance(hours=1)
    store.put("ada", "facts", "long", {"content": "Long story. " * 200})

    prompt = build_system_prompt(store, "ada", "Tutor.", namespaces=["facts"], budget_tokens=200)

    assert [scored.item.key for scored in prompt.used] == ["short"]
    assert [scored.item.key for scored in prompt.left_out] == ["long"]


def test_a_budget_that_all_fits_into_changes_nothing(store: MemoryStore, clock: Clock) -> None:
    for number in range(5):
        clock.advance(hours=1)
        store.put("ada", "facts", f"k{number}", {"content": f"Number {number}."})
    whole = build_system_prompt(store, "ada", "Tutor.", namespaces=["facts"])

    just = build_system_prompt(store, "ada", "Tutor.", namespaces=["facts"], budget_tokens=whole.tokens)
    too_small = build_system_prompt(store, "ada", "Tutor.", namespaces=["facts"], budget_tokens=whole.tokens - 1)

    assert just == whole
    assert len(too_small.used) == 4


def test_a_budget_that_not_even_the_rules_fit_into_is_refused(store: MemoryStore) -> None:
    store.put("ada", "procedures", "long", {"content": "Be brief. " * 50})

    with pytest.raises(InvalidInput, match=r"the role and the rules alone are about 1\d\d tokens, .* is 50\."):
        build_system_prompt(store, "ada", "Tutor.", namespaces=["procedures"], budget_tokens=50)


@pytest.mark.parametrize("budget", [0, -1, 1.5, True, "100"])
def test_a_budget_is_a_whole_number(store: MemoryStore, budget: object) -> None:
    with pytest.raises(InvalidInput, match="budget_tokens must be a whole number"):
        build_system_prompt(store, "ada", "Tutor.", namespaces=["facts"], budget_tokens=budget)


def test_namespaces_are_a_list(store: MemoryStore) -> None:
    with pytest.raises(InvalidInput, match=r"such as \['facts'\]"):
        build_system_prompt(store, "ada", "Tutor.", namespaces="facts")


def test_with_a_query_the_relevant_ones_go_in_best_first(store: MemoryStore, clock: Clock) -> None:
    for key, content in (
        ("exam", "The exam is on Friday 22 May 2026 in Lund."),
        ("cat", "Ada has a cat called Pixel."),
        ("diet", "Ada eats no meat."),
    ):
        store.put("ada", "facts", key, {"content": content})
        clock.advance(hours=1)

    prompt = build_system_prompt(
        store, "ada", "Tutor.", namespaces=["facts"], query="When and where is the exam?", limit=2, min_relevance=0.3
    )

    assert [scored.item.key for scored in prompt.used] == ["exam"]
    assert prompt.used[0].contributions["semantic"] > 0


def test_a_query_fills_a_budget_with_the_best(store: MemoryStore) -> None:
    for number in range(8):
        store.put("ada", "facts", f"n{number}", {"content": f"Ada bought plant number {number} for the window."})
    store.put("ada", "facts", "exam", {"content": "The exam is on Friday 22 May 2026 in Lund."})

    prompt = build_system_prompt(
        store, "ada", "Tutor.", namespaces=["facts"], query="When is the exam?", budget_tokens=105
    )

    assert prompt.used[0].item.key == "exam"
    assert prompt.left_out and prompt.tokens <= 105


def test_rules_stand_in_the_prompt_whatever_the_query_is(store: MemoryStore) -> None:
    store.put("ada", "procedures", "short", {"content": "Be brief."})

    prompt = build_system_prompt(store, "ada", "Tutor.", namespaces=["procedures"], query="Where do I live?")

    assert "- Be brief." in prompt


def test_a_query_of_any_length_is_taken(store: MemoryStore) -> None:
    store.put("ada", "facts", "exam", {"content": "The exam is on Friday 22 May 2026 in Lund."})

    prompt = build_system_prompt(store, "ada", "Tutor.", namespaces=["facts"], query="When is the exam? " * 1000)

    assert "22 May" in prompt


# --- Rules change the behaviour ---------------------------------------------------------------------


def test_a_stored_rule_is_in_the_next_answer_and_gone_with_it(store: MemoryStore) -> None:
    question = ("user", "Explain subnets.")
    with start_practice_model() as server:
        model = chat_model(practice=server)

        def answer() -> str:
            prompt = build_system_prompt(store, "ada", "Tutor.", namespaces=["procedures"])
            return model.invoke([("system", prompt), question]).text

        before = answer()
        store.put("ada", "procedures", "form", {"content": "Give an example first."})
        adapted = answer()
        store.delete("ada", "procedures", "form")
        after = answer()

    assert adapted.startswith("Example:") and not before.startswith("Example:")
    assert after == before


def test_adapt_lists_the_rules_as_a_prompt_has_them(store: MemoryStore, clock: Clock) -> None:
    store.put("ada", "procedures", "old", {"content": "Be\nbrief."})
    clock.advance(hours=1)
    store.put("ada", "procedures", "new", {"content": "Use Spanish."})
    store.put("ada", "procedures", "broken", {"rule": 7})

    rules = adapt(store, "ada")

    assert rules == ["Use Spanish.", "Be brief."]
    assert "- Use Spanish.\n- Be brief." in build_system_prompt(store, "ada", "T.", namespaces=["procedures"])
    assert adapt(store, "eve") == []


# --- Unasked ----------------------------------------------------------------------------------------


def test_what_bears_on_a_turn_is_brought_up_and_else_nothing(store: MemoryStore) -> None:
    store.put("ada", "facts", "fee", {"content": "Ada's company pays the exam fee for the first attempt only."})
    store.put("ada", "facts", "cat", {"content": "Ada has a cat called Pixel."})

    found = proactive_memories(store, "ada", "I'll ask the company to pay the exam fee for my second attempt, too.")
    nothing = proactive_memories(store, "ada", "What a lovely day it is outside.")

    assert [scored.item.key for scored in found] == ["fee"]
    assert "lexical" in repr(found.explain())
    assert nothing == []


def test_how_to_answer_is_not_brought_up(store: MemoryStore) -> None:
    for namespace in ("preferences", "procedures"):
        store.put("ada", namespace, "examples", {"content": "Ada wants an example first when a subnet is explained."})

    assert proactive_memories(store, "ada", "Explain a subnet, with an example first.", min_relevance=0) == []


def test_a_namespace_of_ones_own_is_brought_up_from(store: MemoryStore) -> None:
    store.put("ada", "recipes", "soup", {"content": "The fish soup of the harbour kitchen has dill in it."})

    found = proactive_memories(store, "ada", "I'm cooking the fish soup of the harbour kitchen tonight.")

    assert [scored.item.namespace for scored in found] == ["recipes"]


@pytest.mark.parametrize("turn", ["", "   ", "subnet " * 5000])
def test_no_turn_is_too_short_or_too_long_for_being_proactive(store: MemoryStore, turn: str) -> None:
    store.put("ada", "facts", "cat", {"content": "Has a cat."})

    assert proactive_memories(store, "ada", turn) == []


def test_age_does_not_change_what_is_brought_up(store: MemoryStore, clock: Clock) -> None:
    store.put("ada", "facts", "fee", {"content": "Ada's company pays the exam fee for the first attempt only."})
    turn = "Will the company pay the exam fee for the second attempt?"
    young = proactive_memories(store, "ada", turn)
    clock.advance(days=700)

    old = proactive_memories(store, "ada", turn)

    assert old[0].score == young[0].score


def test_the_prompt_of_a_turn_says_what_may_be_brought_up(store: MemoryStore) -> None:
    store.put("ada", "facts", "fee", {"content": "Ada's company pays the exam fee for the first attempt only."})
    found = proactive_memories(store, "ada", "Will the company pay the exam fee for the second attempt?")

    prompt = proactive_prompt("Tutor.", found)

    assert prompt.index(BRING_UP) < prompt.index(BEGIN) < prompt.index("first attempt")
    assert prompt.used == found
    assert proactive_prompt("Tutor.", ScoredList()) == Prompt("Tutor.") == "Tutor."
