"""Procedural memory learned from episodes: what keeps coming back becomes a rule, with its evidence."""

from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from lib.llm.structured_output import ask
from lib.store.items import MemoryItem, MemoryList
from lib.store.memory_store import MemoryStore
from lib.store.namespaces import EPISODES, PROCEDURAL, PROCEDURES

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

MIN_EVIDENCE = 2  # episodes that must show a pattern, before it is more than a coincidence
PROMPT = """Each line is an episode of one user with an assistant: [id] what happened.
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
    """Read a user's episodes, store the rules that they teach in `procedures`, and return them.

    A rule is kept only with at least two episodes as evidence, all of which exist: a model that cites an episode that
    isn't there has made it up. The value holds the evidence as keys of episodes. Running it again replaces the
    learned rules, and leaves those that the user set alone.
    Episodes may hold words that somebody planted, and rules are followed: have a person look over what is returned.
    Errors: ExtractionFailed, if the model's answer doesn't fit, twice; nothing is changed then.
    """
    episodes = store.search(user_id, EPISODES, limit=limit)
    if len(episodes) < MIN_EVIDENCE:
        return MemoryList()
    text = "\n".join(f"[{item.key}] {' '.join(str(item.value.get('content', '')).split())}" for item in episodes)
    known = {item.key: item for item in episodes}
    kept = [
        pattern
        for pattern in ask(model, Patterns, PROMPT, text).patterns
        if len(set(pattern.evidence)) >= MIN_EVIDENCE
        and set(pattern.evidence) <= set(known)
        and pattern.confidence >= min_confidence
    ]
    return _replace_learned(store, user_id, kept, known)


def _replace_learned(
    store: MemoryStore, user_id: str, patterns: list[Pattern], known: dict[str, MemoryItem]
) -> MemoryList:
    learned = MemoryList()
    for number, pattern in enumerate(patterns, 1):
        evidence = sorted(set(pattern.evidence))
        topics = {topic for key in evidence for topic in known[key].value.get("topics", [])}
        value = {
            "content": pattern.rule.strip(),
            "type": PROCEDURAL,
            "topics": sorted(topics)[:3],
            "confidence": pattern.confidence,
            "source": "learned from episodes",
            "evidence": evidence,
        }
        learned.append(store.put(user_id, PROCEDURES, f"learned_{number}", value))
    for old in store.search(user_id, PROCEDURES, key_prefix="learned_", limit=None):
        if old.key not in {item.key for item in learned}:
            store.delete(user_id, PROCEDURES, old.key)
    return learned
