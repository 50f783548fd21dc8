"""Storing what was said without piling up duplicates: said again, corrected, or new."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass
from datetime import datetime
from typing import Any

from lib.database.tables import KEY_LENGTH, NAMESPACE_LENGTH, as_utc
from lib.errors import InvalidInput
from lib.formation._episodes import time_said
from lib.formation._evidence import conclude_again
from lib.store.memory_store import MemoryStore
from lib.store.namespaces import EPISODIC, TYPES
from lib.store.values import check_name
from lib.text_terms import content_words, fold

MAX_FACT_LENGTH = 1000  # characters; a fact is a sentence or two, not a document
MIN_SIMILARITY = 0.5  # share of content words that two sentences have in common to say the same thing
MAX_COMPARED = 200  # newest memories of a namespace that a new one is compared with


@dataclass(frozen=True, slots=True)
class Remembered:
    """What became of memories that were said, in numbers."""

    new: int = 0
    corrected: int = 0  # replaced what stood at their address; the old version is in the store's history
    said_again: int = 0  # stood there already, in these words or nearly so
    outdated: int = 0  # said earlier than what stands there, or only concluded where that was said; not stored

    def __add__(self, more: "Remembered") -> "Remembered":
        return Remembered(*map(sum, zip(astuple(self), astuple(more), strict=True)))


def check_memory(namespace: str, key: str, content: str, name: str = "content") -> None:
    """Raise InvalidInput if such a memory can't be stored. name: what the message calls the content."""
    check_name(namespace, "namespace", NAMESPACE_LENGTH)
    check_name(key, "key", KEY_LENGTH)
    if not 0 < (length := len(content.strip())) <= MAX_FACT_LENGTH:
        raise InvalidInput(
            f"{name} must have 1 to {MAX_FACT_LENGTH:,} characters, not {length:,}. Write one or two sentences."
        )


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
    namespace, key, content = memory["namespace"], memory["key"], memory["content"].strip()
    if TYPES.get(namespace) == EPISODIC and not re.match(r"\d{4}-", key):
        # An event is named by when it was, whatever a model calls it: two evenings may get the same name.
        key = f"{said_at:%Y-%m-%d_%H%M}_{key}"[:KEY_LENGTH]
    value = {name: memory[name] for name in ("type", "topics", "confidence", "turn", "evidence") if name in memory}
    value |= {"content": content, "source": source, "said_at": said_at.isoformat()}
    match = _matching(store, user_id, namespace, key, content)
    if match is None:
        store.put(user_id, namespace, key, value)
        return Remembered(new=1)
    key, before = match
    content_before = str(before.get("content", ""))
    same = says_the_same(content, content_before)
    # Of one that doesn't tell when it was said, when it was stored: an agent stores in the turn that says it.
    is_newer = said_at >= (time_said(before) or store.history(user_id, namespace, key)[-1].written_at)
    if "evidence" in value:
        outcome, after = conclude_again(before, value, same=same, is_newer=is_newer)
    elif fold(content) == fold(content_before):
        outcome, after = "said_again", before
    elif is_newer:
        outcome, after = "said_again" if same else "corrected", value
    else:
        outcome, after = "outdated", before
    if after != before:
        store.put(user_id, namespace, key, after)
    return Remembered(**{outcome: 1})


def _matching(
    store: MemoryStore, user_id: str, namespace: str, key: str, content: str
) -> tuple[str, dict[str, Any]] | None:
    """(key, value) of the memory that this one says again or corrects; None if it is new."""
    value = store.get(user_id, namespace, key)
    if value is not None:
        return key, value
    if TYPES.get(namespace) == EPISODIC:
        return None  # two evenings that went alike are two evenings
    newest = store.search(user_id, namespace, limit=MAX_COMPARED)
    alike = [item for item in newest if says_the_same(content, str(item.value.get("content", "")))]
    nearest = max(alike, key=lambda item: similarity(content, item.value["content"]), default=None)
    return None if nearest is None else (nearest.key, nearest.value)


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
    words, other_words = set(content_words(one)), set(content_words(other))
    same_numbers = set(re.findall(r"\d+", one)) == set(re.findall(r"\d+", other))
    one_adds_nothing = words <= other_words or other_words <= words
    return same_numbers and one_adds_nothing and similarity(one, other) >= MIN_SIMILARITY


def similarity(one: str, other: str) -> float:
    """Share of the content words of two sentences that both have, from 0 to 1 (Jaccard index).

    >>> similarity("The exam is on 22 May.", "The exam is on 3 June.")
    0.2
    """
    first, second = set(content_words(one)), set(content_words(other))
    if not first or not second:
        return float(one.strip() == other.strip())
    return len(first & second) / len(first | second)
