"""How many tokens a prompt has, about, and which memories fit into it."""

import math
from collections.abc import Iterable, Sequence

from lib.agent.prompt_quoting import RULE, quote_memories, quote_memory
from lib.checks import checked_number
from lib.errors import InvalidInput
from lib.retrieval.scored_memory import ScoredMemory

CHARACTERS_PER_TOKEN, TOKENS_PER_MESSAGE = 4, 3


def approximate_tokens(text: str, role: str = "system") -> int:
    """About how many tokens a message is, by the rule of LangChain's `count_tokens_approximately`.

    Four characters are a token, and a message has three more. Text that isn't English has more tokens than that.

    >>> approximate_tokens("You are a tutor.")
    9
    """
    return math.ceil((len(text) + len(role)) / CHARACTERS_PER_TOKEN) + TOKENS_PER_MESSAGE


def with_memories(head: str, memories: Sequence[ScoredMemory]) -> str:
    """The prompt's head, and the memories as a quoted block, if there are any."""
    block = quote_memories(scored.item for scored in memories)
    return f"{head}\n\n{RULE}\n{block}" if block else head


def address_of(scored: ScoredMemory) -> tuple[str, str]:
    """Where a user's memory stands: (namespace, key)."""
    return scored.item.namespace, scored.item.key


def addresses_that_fit(
    head: str, best_first: Iterable[ScoredMemory], budget_tokens: int | None
) -> set[tuple[str, str]]:
    """Return the addresses of the memories that go in: each that still fits beside the better ones."""
    if budget_tokens is None:
        return set(map(address_of, best_first))
    checked_number("budget_tokens", budget_tokens, 1, whole=True)
    if (needed := approximate_tokens(head)) > budget_tokens:
        raise InvalidInput(
            f"the role and the rules alone are about {needed:,} tokens, and budget_tokens is {budget_tokens:,}. "
            "Raise it, or delete rules."
        )
    text, fitting = head, set[tuple[str, str]]()
    for scored in best_first:
        # The first one brings the frame of the block with it; each further one is a line.
        longer = f"{text}\n{quote_memory(scored.item)}" if fitting else with_memories(head, [scored])
        if approximate_tokens(longer) <= budget_tokens:
            text = longer
            fitting.add(address_of(scored))
    return fitting
