"""Procedural memory learned from episodes: what keeps coming back becomes a rule, with its evidence."""

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from lib.checks import checked_number
from lib.formation._episodes import MIN_EVIDENCE, by_prompt_id, prompt_id, prompt_lines
from lib.llm.structured_output import ask
from lib.store.items import MemoryList
from lib.store.memory_store import MemoryStore
from lib.store.namespaces import EPISODES, PROCEDURAL, PROCEDURES
from lib.store.values import topics_of

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

LEARNED = "learned from episodes"  # the source in the value of a learned rule
PROMPT = """Each line is an episode of one user with an assistant: [id] what happened (topics).
Find patterns: what at least two episodes share and what the assistant should do differently because of it.
Give each as a rule in one sentence, with the ids of all episodes that show it and your confidence from 0 to 1."""


class Pattern(BaseModel, extra="forbid"):
    """A pattern as a model gives it."""

    rule: str = Field(description="what the assistant should do, in one sentence")
    evidence: list[str] = Field(description="ids of the episodes that show it")
    confidence: float = Field(ge=0, le=1)


class Patterns(BaseModel, extra="forbid"):
    """All patterns of a model's answer; the schema of the answer is made from this."""

    patterns: list[Pattern]


def learn_procedures(
    model: "BaseChatModel", store: MemoryStore, user_id: str, *, limit: int = 50, min_confidence: float = 0.5
) -> MemoryList:
    """Read a user's newest episodes, store the rules that they teach in `procedures`, and return them.

    A rule needs two episodes as evidence that exist: a model that cites others made it up. Running
    it again replaces what was learned before, and leaves the rules that the user set alone.
    Episodes may hold planted words, and rules are followed: have a person look over what is returned.
    Errors: ExtractionFailed, if the model's answer doesn't fit, twice; nothing is changed then.
    """
    checked_number("min_confidence", min_confidence, 0, 1)
    episodes = by_prompt_id(store.search(user_id, EPISODES, limit=limit))
    if len(episodes) < MIN_EVIDENCE:
        return MemoryList()
    rules = []
    for pattern in ask(model, Patterns, PROMPT, prompt_lines(episodes)).patterns:
        cited = {prompt_id(name) for name in pattern.evidence}
        if len(cited) >= MIN_EVIDENCE and cited <= set(episodes) and pattern.confidence >= min_confidence:
            evidence = [episodes[name] for name in cited]
            topics = {topic for episode in evidence for topic in topics_of(episode.value)}
            keys = sorted(episode.key for episode in evidence)
            rules.append(_rule(pattern, keys, sorted(topics)[:3]))
    return _replace_learned(store, user_id, rules)


def _rule(pattern: Pattern, evidence: list[str], topics: list[str]) -> dict[str, Any]:
    learned = {"type": PROCEDURAL, "source": LEARNED, "evidence": evidence}
    return {"content": pattern.rule.strip(), "topics": topics, "confidence": pattern.confidence, **learned}


def _replace_learned(store: MemoryStore, user_id: str, rules: list[dict[str, Any]]) -> MemoryList:
    """Store the rules in place of those that were learned before, all in one transaction."""
    with store.locked_transaction(user_id) as inside:
        if inside is None:  # forgotten meanwhile
            return MemoryList()
        before = inside.search(user_id, PROCEDURES, limit=None)
        old = {item.key for item in before if item.value.get("source") == LEARNED}
        taken = {item.key for item in before} - old
        # A key of the user's may look like ours, so the numbers that are taken are passed over.
        numbered = (f"learned_{number}" for number in range(1, len(rules) + len(taken) + 1))
        free = [key for key in numbered if key not in taken][: len(rules)]
        learned = MemoryList(inside.put(user_id, PROCEDURES, key, rule) for key, rule in zip(free, rules, strict=True))
        for key in old - set(free):
            inside.delete(user_id, PROCEDURES, key)
    return learned
