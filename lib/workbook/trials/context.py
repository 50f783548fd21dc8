"""Patterns of putting memories into the prompt, tried on labelled moments: their cost, and what the model sees."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from lib.agent.conversation import PATTERNS, START_BUDGET, Answer, Conversation
from lib.store.memory_store import MemoryStore
from lib.workbook.lesson import load_memories, load_moments

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel


def choose_moments(each: int = 5) -> list[dict[str, Any]]:
    """The moments of the comparison: of each person the first of the test, so many that call for a memory and so many
    that call for none."""
    chosen: defaultdict[tuple[str, bool], list[dict[str, Any]]] = defaultdict(list)
    for moment in load_moments("test"):
        kind = chosen[moment["person"], bool(moment["memories"])]
        if len(kind) < each:
            kind.append(moment)
    return [moment for moments in chosen.values() for moment in moments]


def compare_patterns(
    store: MemoryStore,
    model: "BaseChatModel",
    moments: Sequence[dict[str, Any]] | None = None,
    *,
    patterns: Iterable[str] = tuple(PATTERNS),
    budget_tokens: int = START_BUDGET,
    progress: bool = True,
) -> list[dict[str, Any]]:
    """Each moment as the first turn of a conversation, once for each pattern: a dict for each pattern.

    store: with the people of the data, as from `store_people`. moments: None takes `choose_moments()`.
    prompt_tokens, model_calls: of all turns. memories_per_turn: that the model saw.
    right_seen: share of the turns that call for a memory, in which the model saw at least one that is right.
    wrong_seen: share of all turns in which it saw one that a thoughtful assistant would not use; in "at the start" that
    is the price of knowing the user, elsewhere it is noise.
    spoke_in_silence: share of the turns that call for none, in which it saw one.
    """
    moments = choose_moments() if moments is None else list(moments)
    rows = []
    for pattern in patterns:
        answers = [
            Conversation(model, store, moment["person"], pattern=pattern, budget_tokens=budget_tokens).say(
                moment["turn"]
            )
            for moment in tqdm(moments, desc=pattern, unit="turn", disable=not progress)
        ]
        rows.append({"pattern": pattern, **_measured(moments, answers)})
    return rows


def _measured(moments: Sequence[dict[str, Any]], answers: Sequence[Answer]) -> dict[str, Any]:
    addresses = {memory["id"]: (memory["namespace"], memory["key"]) for memory in load_memories()}
    turns = []  # (what should be seen, what was)
    for moment, answer in zip(moments, answers, strict=True):
        seen = {(scored.item.namespace, scored.item.key) for scored in answer.memories}
        turns.append(({addresses[name] for name in moment["memories"]}, seen))
    calling = [bool(wanted & seen) for wanted, seen in turns if wanted]
    silent = [bool(seen) for wanted, seen in turns if not wanted]
    return {
        "prompt_tokens": sum(answer.prompt_tokens for answer in answers),
        "model_calls": sum(answer.calls for answer in answers),
        "memories_per_turn": round(sum(len(seen) for _, seen in turns) / max(len(turns), 1), 1),
        "right_seen": _share(calling),
        "wrong_seen": _share([bool(seen - wanted) for wanted, seen in turns]),
        "spoke_in_silence": _share(silent),
    }


def _share(cases: Sequence[bool]) -> float:
    return round(sum(cases) / len(cases), 2) if cases else 0.0
