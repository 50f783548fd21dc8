"""Storing what was said without piling up duplicates: said again, corrected, or new."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lib.database.tables import KEY_LENGTH, NAMESPACE_LENGTH, as_utc
from lib.errors import InvalidInput
from lib.store.filters import check_name
from lib.store.items import MemoryItem
from lib.store.memory_store import MemoryStore
from lib.store.namespaces import EPISODIC, TYPES
from lib.text_terms import content_words, fold

MAX_FACT_LENGTH = 1000  # characters; a fact is a sentence or two, not a document
NEARLY_EQUAL = 0.5  # share of content words that two sentences have in common to say the same thing
LOOKED_AT = 200  # newest memories of a namespace that a new one is compared with


@dataclass(frozen=True, slots=True)
class Remembered:
    """What became of memories that were said, in numbers."""

    new: int = 0
    corrected: int = 0  # replaced what stood at their address; the old version is in the store's history
    said_again: int = 0  # stood there already, in these words or nearly so
    outdated: int = 0  # said earlier than what stands there, or only concluded where that was said; not stored

    def __add__(self, other: "Remembered") -> "Remembered":
        return Remembered(
            self.new + other.new,
            self.corrected + other.corrected,
            self.said_again + other.said_again,
            self.outdated + other.outdated,
        )


def check_memory(namespace: str, key: str, content: str) -> None:
    """InvalidInput if such a memory can't be stored."""
    check_name(namespace, "namespace", NAMESPACE_LENGTH)
    check_name(key, "key", KEY_LENGTH)
    if not content.strip() or len(content) > MAX_FACT_LENGTH:
        raise InvalidInput(f"content must have 1 to {MAX_FACT_LENGTH:,} characters, not {len(content.strip()):,}.")


def remember_all(
    store: MemoryStore, user_id: str, memories: Iterable[Mapping[str, Any]], *, source: str, said_at: datetime
) -> Remembered:
    """Store memories of one conversation; what stands already is not stored twice.

    memories: dicts with namespace, key, content, type, topics, confidence; turn, of what was said in a conversation;
        evidence, a list of keys, of what was concluded from other memories. The evidence of what is concluded again
        grows, and what somebody said is never replaced by a conclusion.
    source: the conversation. said_at: when it ended; an older conversation never overwrites a newer memory.

    A memory meets another one at its address (a stable key), or, when a model named the same thing differently, a
    nearly equal one in its namespace: then it goes to that one's address. Call it on `store.in_transaction(connection)`
    to have all of it happen or nothing.
    """
    said_at = as_utc(said_at)
    counts = Remembered()
    for memory in memories:
        counts += _remember_one(store, user_id, memory, source, said_at)
    return counts


def _remember_one(
    store: MemoryStore, user_id: str, memory: Mapping[str, Any], source: str, said_at: datetime
) -> Remembered:
    namespace, content = memory["namespace"], memory["content"].strip()
    key = memory["key"]
    if TYPES.get(namespace) == EPISODIC and not re.match(r"\d{4}-", key):
        # An event is named by when it was, whatever a model calls it: two evenings may get the same name.
        key = f"{said_at:%Y-%m-%d_%H%M}_{key}"[:KEY_LENGTH]
    value = {name: memory[name] for name in ("type", "topics", "confidence", "turn", "evidence") if name in memory}
    value |= {"content": content, "source": source, "said_at": said_at.isoformat()}
    standing = _standing(store, user_id, namespace, key, content)
    if standing is None:
        store.put(user_id, namespace, key, value)
        return Remembered(new=1)
    key, before = standing
    if "evidence" in value:
        return _conclude_again(store, user_id, namespace, key, before, value, said_at)
    if fold(content) == fold(str(before.get("content", ""))):
        return Remembered(said_again=1)
    if _when(store, user_id, namespace, key, before) > said_at:
        return Remembered(outdated=1)
    store.put(user_id, namespace, key, value)
    return Remembered(said_again=1) if says_the_same(content, before.get("content", "")) else Remembered(corrected=1)


def _conclude_again(
    store: MemoryStore,
    user_id: str,
    namespace: str,
    key: str,
    before: dict[str, Any],
    value: dict[str, Any],
    said_at: datetime,
) -> Remembered:
    same = says_the_same(value["content"], str(before.get("content", "")))
    if "evidence" not in before:
        return Remembered(said_again=1) if same else Remembered(outdated=1)
    is_newer = _when(store, user_id, namespace, key, before) <= said_at
    if same:
        both = united(value, before) if is_newer else united(before, value)
        if both != before:
            store.put(user_id, namespace, key, both)
        return Remembered(said_again=1)
    if is_newer:
        store.put(user_id, namespace, key, value)
    return Remembered(corrected=1) if is_newer else Remembered(outdated=1)


def united(stays: Mapping[str, Any], goes: Mapping[str, Any]) -> dict[str, Any]:
    """The value that stays, with the higher confidence of two, and the topics and the evidence of both.

    >>> united({"content": "Sails.", "confidence": 0.7, "topics": ["sea"]}, {"confidence": 0.9, "topics": ["work"]})
    {'content': 'Sails.', 'confidence': 0.9, 'topics': ['sea', 'work']}
    """
    value = dict(stays)
    sure = [one["confidence"] for one in (stays, goes) if isinstance(one.get("confidence"), int | float)]
    if sure:
        value["confidence"] = max(sure)
    for name in ("topics", "evidence"):
        lists = [one[name] for one in (stays, goes) if isinstance(one.get(name), list)]
        both = [text for texts in lists for text in texts if isinstance(text, str)]
        if both:
            value[name] = list(dict.fromkeys(both)) if name == "topics" else sorted(set(both))
    return value


def _standing(
    store: MemoryStore, user_id: str, namespace: str, key: str, content: str
) -> tuple[str, dict[str, Any]] | None:
    """(key, value) of the memory that this one says again or corrects; None if it is new."""
    value = store.get(user_id, namespace, key)
    if value is not None:
        return key, value
    if TYPES.get(namespace) == EPISODIC:
        return None  # two evenings that went alike are two evenings
    others: list[MemoryItem] = store.search(user_id, namespace, limit=LOOKED_AT)
    alike = [item for item in others if says_the_same(content, str(item.value.get("content", "")))]
    best = max(alike, key=lambda item: similarity(content, item.value["content"]), default=None)
    return None if best is None else (best.key, best.value)


def says_the_same(one: str, other: str) -> bool:
    """Whether two sentences say nearly the same: every number, and all content words of one, are in the other.

    A word that only one of them has may be more detail. Words on both sides that the other hasn't are two facts.

    >>> says_the_same("Zoë has a cat called Pixel.", "Zoë has a black cat called Pixel.")
    True
    >>> says_the_same("The exam in Lund is on 22 May.", "The exam in Lund is on 23 May.")
    False
    >>> says_the_same("Ada is very allergic to raw nuts.", "Ada is very allergic to raw fish.")
    False
    """
    numbers = [set(re.findall(r"\d+", text)) for text in (one, other)]
    words = [set(content_words(text)) for text in (one, other)]
    one_adds_nothing = words[0] <= words[1] or words[1] <= words[0]
    return numbers[0] == numbers[1] and one_adds_nothing and similarity(one, other) >= NEARLY_EQUAL


def similarity(one: str, other: str) -> float:
    """Share of the content words of two sentences that both have, from 0 to 1 (Jaccard index).

    >>> similarity("The exam is on 22 May.", "The exam is on 3 June.")
    0.2
    """
    first, second = set(content_words(one)), set(content_words(other))
    if not first or not second:
        return float(one.strip() == other.strip())
    return len(first & second) / len(first | second)


def _when(store: MemoryStore, user_id: str, namespace: str, key: str, value: Mapping[str, Any]) -> datetime:
    """When a memory was said; when it was stored, if it doesn't tell: an agent stores in the turn that says it."""
    try:
        return as_utc(datetime.fromisoformat(value["said_at"]))
    except (KeyError, TypeError, ValueError):
        return store.history(user_id, namespace, key)[-1].written_at
