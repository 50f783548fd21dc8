"""Putting memories into the prompt."""

from collections.abc import Sequence

from lib.namespaces import EPISODES, PROCEDURES
from lib.quoting import RULE, quote_memories
from lib.store import MemoryStore

PER_NAMESPACE = 10  # newest memories of each namespace that go into a prompt


def build_system_prompt(
    store: MemoryStore, user_id: str, role: str, *, namespaces: Sequence[str], limit: int = PER_NAMESPACE
) -> str:
    """A system prompt with what is remembered about the user.

    role: what the assistant is, in a sentence.
    namespaces: what it needs, in the order of the prompt. Procedures are rules, so they stand outside of the quoted
        block, as instructions: take care who may write them (see `memory_tools`). All the rest is data.
    limit: newest memories of each namespace; only the last few episodes are of use, so a third of it for them.
    """
    parts = [role]
    rules = [item.value.get("content", "") for item in store.search(user_id, PROCEDURES, limit=limit)]
    if PROCEDURES in namespaces and rules:
        parts.append("How this user wants you to work:\n" + "\n".join(f"- {' '.join(rule.split())}" for rule in rules))
    items = []
    for namespace in namespaces:
        if namespace != PROCEDURES:
            few = max(1, limit // 3) if namespace == EPISODES else limit
            items += store.search(user_id, namespace, limit=few)
    if items:
        parts.append(f"{RULE}\n{quote_memories(items)}")
    return "\n\n".join(parts)
