"""Putting memories into the prompt: at the start, within a budget of tokens; or unasked, when they matter."""

from collections.abc import Iterable, Sequence
from typing import Any

from lib.agent._budget import address_of, addresses_that_fit, approximate_tokens, with_memories
from lib.checks import checked_number, renamed
from lib.errors import InvalidInput
from lib.retrieval.scored_memory import ScoredList, ScoredMemory
from lib.retrieval.search import MAX_QUERY_LENGTH, Weights, retrieve
from lib.store.items import MemoryItem
from lib.store.memory_store import MemoryStore
from lib.store.namespaces import EPISODES, PREFERENCES, PROCEDURES

PER_NAMESPACE = 10  # newest memories of each namespace that go into a prompt
RULES = "How this user wants you to work:"
BRING_UP = "This may be worth bringing up now, although the user didn't ask. If it helps them, do so in a sentence."
# Relevance from which a memory is brought up unasked. Chosen with the local embedder on the 33 moments for development
# in data/moments.jsonl: the highest recall at which at least 8 of 10 memories brought up are right. There, 6 of 7 were,
# and 16% of all that should be brought up. On the 33 moments of the test it was 3 of 8 and 8%: seven are too few to
# choose by, and what is worth bringing up often has neither words nor meaning in common with the turn, only a
# consequence for it. See lib.workbook.trials.moments; where it matters, let a model have the last word.
SPEAK_FROM = 0.36
NOT_BROUGHT_UP = (PREFERENCES, PROCEDURES)  # how to answer: that belongs into the prompt from the start
_RELEVANT = Weights(recency=0)


class Prompt(str):
    """A system prompt: a text like any other, which also knows how it came about.

    used: the memories in it, in its order, with scores where there was a query. left_out: those that were considered
    and that the budget had no room for, the best first. tokens: of the whole prompt, about; see `approximate_tokens`.
    """

    used: ScoredList
    left_out: ScoredList
    tokens: int

    def __new__(
        cls, text: str = "", used: Iterable[ScoredMemory] = (), left_out: Iterable[ScoredMemory] = ()
    ) -> "Prompt":
        prompt = super().__new__(cls, text)
        prompt.used, prompt.left_out = ScoredList(used), ScoredList(left_out)
        prompt.tokens = approximate_tokens(text)
        return prompt


def build_system_prompt(
    store: MemoryStore,
    user_id: str,
    role: str,
    *,
    namespaces: Sequence[str],
    query: str | None = None,
    budget_tokens: int | None = None,
    limit: int = PER_NAMESPACE,
    min_relevance: float | None = None,
) -> Prompt:
    """A system prompt with what is remembered about the user.

    role: what the assistant is, in a sentence.
    namespaces: what it needs, in the order of the prompt. Procedures are rules, so they stand first and outside of the
        quoted block, as instructions: take care who may write them (see `memory_tools`). All the rest is data.
    query: None takes the newest memories. With a query, such as the user's turn (its first 10,000 characters count),
        the most relevant ones, best first: see `retrieve`.
    budget_tokens: for the whole prompt; None sets no bound. Rules always go in; then whatever still fits, the best
        first, or without a query the newest.
    limit: newest memories of each namespace, and of episodes a third of it, as only the last few are of use. With a
        query: of all namespaces together. All rules go in, whatever it says.
    min_relevance: with a query, the least; as for `retrieve`.
    Errors: InvalidInput, also for a budget that the role and the rules alone exceed.
    """
    if isinstance(namespaces, str):
        raise InvalidInput(f"namespaces must be a list such as [{namespaces!r}], not a text.")
    checked_number("limit", limit, 0, whole=True)
    rules = _rules(store, user_id) if PROCEDURES in namespaces else ScoredList()
    head = "\n\n".join([role, f"{RULES}\n{_listed(rules)}"] if rules else [role])
    quoted = [namespace for namespace in dict.fromkeys(namespaces) if namespace != PROCEDURES]
    if query is None or not quoted:
        memories = _newest(store, user_id, quoted, limit)
        best_first = sorted(memories, key=lambda scored: scored.item.updated_at, reverse=True)
    else:
        options: dict[str, Any] = {"namespaces": quoted, "min_relevance": min_relevance}
        memories = best_first = retrieve(store, user_id, _beginning(query), limit=limit, **options)
    fitting = addresses_that_fit(head, best_first, budget_tokens)
    used = [scored for scored in memories if address_of(scored) in fitting]
    left_out = [scored for scored in best_first if address_of(scored) not in fitting]
    return Prompt(with_memories(head, used), [*rules, *used], left_out)


def adapt(store: MemoryStore, user_id: str) -> list[str]:
    """The rules that an assistant follows for this user, newest first, one line each: what a prompt is given of them.

    They are the user's procedural memories, set by them (`memory_tools(…, rules=True)`) or learned from episodes
    (`learn_procedures`): store one, and the next prompt has it.
    """
    return [_rule_of(scored.item) for scored in _rules(store, user_id)]


@renamed(turn="query", threshold="min_relevance", k="limit")
def proactive_memories(
    store: MemoryStore, user_id: str, query: str, *, min_relevance: float = SPEAK_FROM, limit: int = 2
) -> ScoredList:
    """What is worth bringing up at this turn although nobody asked; mostly nothing.

    query: what the user has just said; its first 10,000 characters count.
    min_relevance: see `SPEAK_FROM`. limit: at most so many memories.
    Preferences and procedures are left out: how to answer is not a thing to bring up. Age doesn't count.
    Errors: InvalidInput.
    """
    checked_number("limit", limit, 0, whole=True)
    namespaces = [name for name in store.list_namespaces(user_id) if name not in NOT_BROUGHT_UP]
    if not namespaces:
        return ScoredList()
    only: dict[str, Any] = {"namespaces": namespaces, "min_relevance": min_relevance}
    only |= {"weights": _RELEVANT, "newest_versions": False}
    return retrieve(store, user_id, _beginning(query), limit=limit, **only)


def proactive_prompt(role: str, memories: ScoredList) -> Prompt:
    """The system prompt of a turn in which these may be brought up; the role alone where there are none."""
    return Prompt(with_memories(f"{role}\n\n{BRING_UP}", memories) if memories else role, memories)


def _rules(store: MemoryStore, user_id: str) -> ScoredList:
    items = [item for item in store.search(user_id, PROCEDURES, limit=None) if _rule_of(item)]
    return ScoredList(ScoredMemory(item, 0.0, 0.0, note="a rule: always in the prompt") for item in items)


def _rule_of(item: MemoryItem) -> str:
    """A rule on one line, so that it can't pass for more than one."""
    content = item.value.get("content")
    return " ".join(content.split()) if isinstance(content, str) else ""


def _listed(rules: ScoredList) -> str:
    return "\n".join(f"- {_rule_of(scored.item)}" for scored in rules)


def _newest(store: MemoryStore, user_id: str, namespaces: Sequence[str], limit: int) -> ScoredList:
    """In the order of the namespaces, each newest first."""
    memories = ScoredList()
    for namespace in namespaces:
        # Of episodes a third, but where anything is wanted, at least the last one.
        most = min(limit, max(1, limit // 3)) if namespace == EPISODES else limit
        items = store.search(user_id, namespace, limit=most)
        memories += [ScoredMemory(item, 0.0, 0.0, note=f"one of the newest {namespace}") for item in items]
    return memories


def _beginning(turn: str) -> str:
    return turn[:MAX_QUERY_LENGTH] if isinstance(turn, str) else turn  # retrieve says what is wrong with anything else
