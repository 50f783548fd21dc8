"""What a prompt holds: what was asked for, newest first, rules as rules and everything else as data."""

from conftest import Clock

from lib.context import build_system_prompt
from lib.quoting import BEGIN, END
from lib.store import MemoryStore


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


def test_the_newest_come_in_and_of_episodes_a_third_as_many(store: MemoryStore, clock: Clock) -> None:
    for namespace in ("facts", "episodes"):
        for number in range(12):
            store.put("ada", namespace, f"k{number}", {"content": f"{namespace} number {number}."})

    prompt = build_system_prompt(store, "ada", "Tutor.", namespaces=["facts", "episodes"], limit=6)

    assert prompt.count("facts number") == 6 and prompt.count("episodes number") == 2
    assert "facts number 11." in prompt and "facts number 0." not in prompt
