"""Newer versions: of two memories about one thing, the newer one is right, though the older may sound more like it."""

import re
from dataclasses import replace

from lib.candidates import Candidate
from lib.items import MemoryItem
from lib.namespaces import EPISODIC, TYPES
from lib.scored import ScoredMemory
from lib.terms import words

LOOKED_AT = 30  # of the ranking's top
# Cosine from which two memories of one namespace are about one thing: if they also have a topic in common, or if
# their keys are alike but for numbers (exam_date, exam_date_2). Measured on the people in data/.
SAME_WITH_TOPIC, SAME_WITH_KEY = 0.6, 0.35
LEAST_RELEVANCE = 0.5  # of the older one's: the newer must be an answer, too

_NUMBER = re.compile(r"\d+")

Ranked = list[tuple[Candidate, ScoredMemory]]


def newer_versions(ranked: Ranked) -> Ranked:
    """The same memories, where each that has an older version above it gets a score just above that one's.

    An episode has no versions: what happened, happened.
    """
    import numpy as np

    order = sorted(range(len(ranked)), key=lambda i: -ranked[i][1].score)[:LOOKED_AT]
    if len(order) < 2:
        return ranked
    vectors = np.stack([candidate.vector for candidate, _ in ranked])
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    result = list(ranked)
    for older in order:
        item = ranked[older][1].item
        if _episodic(item):
            continue
        alike = vectors @ vectors[older]
        newer = [i for i in np.flatnonzero(alike >= SAME_WITH_KEY) if _is_newer(ranked[i], ranked[older], alike[i])]
        newer.sort(key=lambda i: ranked[i][1].item.updated_at)
        floor = result[older][1].score
        for i in newer:
            candidate, scored = result[i]
            floor = max(floor + 1e-6, scored.score)  # of several, the newest above the newer
            if scored.score < floor:
                result[i] = candidate, replace(scored, score=floor, note=f"newer than {item.key}")
    return result


def _is_newer(this: tuple[Candidate, ScoredMemory], than: tuple[Candidate, ScoredMemory], alike: float) -> bool:
    new, old = this[1], than[1]
    if new.item.namespace != old.item.namespace or new.item.updated_at <= old.item.updated_at or _episodic(new.item):
        return False
    if new.relevance < LEAST_RELEVANCE * old.relevance:
        return False
    if (named := _key_words(new.item.key)) and named == _key_words(old.item.key):  # a number alone names nothing
        return True
    return bool(alike >= SAME_WITH_TOPIC and _topics(new.item) & _topics(old.item))


def _key_words(key: str) -> list[str]:
    """
    >>> _key_words("exam_date_2026-05") == _key_words("exam_date")
    True
    """
    return words(_NUMBER.sub(" ", key.replace("_", " ")))


def _topics(item: MemoryItem) -> set[str]:
    topics = item.value.get("topics")
    return {topic for topic in topics if isinstance(topic, str)} if isinstance(topics, list) else set()


def _episodic(item: MemoryItem) -> bool:
    return item.value.get("type", TYPES.get(item.namespace)) == EPISODIC
