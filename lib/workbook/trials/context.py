"""Patterns of putting memories into the prompt, tried on labelled moments: their cost, and what the model sees."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from lib.agent.conversation import PATTERNS, Answer, Conversation
from lib.store.memory_store import MemoryStore
from lib.workbook.lesson import load_moments
from lib.workbook.trials.moments import addresses, share

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel


def choose_moments() -> list[dict[str, Any]]:
    """The moments of the comparison: of each person the first of the test, five with and five without a memory."""
    chosen: defaultdict[tuple[str, bool], list[dict[str, Any]]] = defaultdict(list)
    for moment in load_moments("test"):
        chosen[moment["person"], bool(moment["memories"])].append(moment)
    return [moment for moments in chosen.values() for moment in moments[:5]]


def compare_patterns(
    store: MemoryStore, model: "BaseChatModel", *, patterns: Iterable[str] = tuple(PATTERNS)
) -> list[dict[str, Any]]:
    """Each of `choose_moments()` as the first turn of a conversation, once for each pattern: a dict for each pattern.

    store: with the people of the data, as from `store_people`.
    prompt_tokens, model_calls: of all turns. memories_per_turn: that the model saw.
    right_seen: share of the turns that call for a memory, in which the model saw at least one that is right.
    wrong_seen: share of all turns in which it saw one that a thoughtful assistant would not use; in "at the start" that
    is the price of knowing the user, elsewhere it is noise.
    spoke_in_silence: share of the turns that call for none, in which it saw one.
    """
    moments = choose_moments()
    rows = []
    for pattern in patterns:
        answers = [
            Conversation(model, store, moment["person"], pattern=pattern).say(moment["turn"])
            for moment in tqdm(moments, desc=pattern, unit="turn")
        ]
        rows.append({"pattern": pattern, **_measured(moments, answers)})
    return rows


def _measured(moments: Sequence[dict[str, Any]], answers: Sequence[Answer]) -> dict[str, Any]:
    where = addresses()
    turns = []  # (what should be seen, what was)
    for moment, answer in zip(moments, answers, strict=True):
        seen = {(scored.item.namespace, scored.item.key) for scored in answer.memories}
        turns.append(({where[name] for name in moment["memories"]}, seen))
    return {
        "prompt_tokens": sum(answer.prompt_tokens for answer in answers),
        "model_calls": sum(answer.calls for answer in answers),
        "memories_per_turn": round(sum(len(seen) for _, seen in turns) / len(turns), 1),
        "right_seen": round(share(bool(wanted & seen) for wanted, seen in turns if wanted), 2),
        "wrong_seen": round(share(bool(seen - wanted) for wanted, seen in turns), 2),
        "spoke_in_silence": round(share(bool(seen) for wanted, seen in turns if not wanted), 2),
    }
