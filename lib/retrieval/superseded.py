"""Newer versions: of two memories about one thing, the newer one is right, though the older may sound more like it."""

import re
from dataclasses import replace

from lib.retrieval._candidates import Candidate
from lib.retrieval.scored_memory import ScoredMemory
from lib.store.items import MemoryItem
from lib.store.namespaces import EPISODIC, TYPES
from lib.store.values import topics_of
from lib.text_terms import words

MAX_COMPARED = 30  # of the ranking's top
# Cosine from which two memories of one namespace are about one thing: if they also have a topic in common, or if
# their keys are alike but for numbers (exam_date, exam_date_2). Measured on the people in data/.
SAME_WITH_TOPIC, SAME_WITH_KEY = 0.75, 0.35
MIN_RELEVANCE = 0.5  # of the older one's: the newer must be an answer, too

_NUMBER = re.compile(r"\d+")

Ranked = list[tuple[Candidate, ScoredMemory]]


def newer_versions(ranked: Ranked) -> Ranked:
    """The same memories, where versions of one thing have exchanged their scores: the newest has the best of them.

    All others keep their places: a newer version takes that of the older one, and pushes nothing else down. An
    episode has no versions: what happened, happened.
    """
    import numpy as np

    order = sorted(range(len(ranked)), key=lambda i: -ranked[i][1].score)[:MAX_COMPARED]
    if len(order) < 2:
        return ranked
    vectors = np.stack([candidate.vector for candidate, _ in ranked])
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    groups: dict[int, set[int]] = {}  # each memory that has versions -> all of them, itself too
    for older in order:
        if _episodic(ranked[older][1].item):
            continue
        alike = vectors @ vectors[older]
        newer = [
            i
            for i in np.flatnonzero(alike >= SAME_WITH_KEY).tolist()
            if is_newer_version(ranked[i], ranked[older], alike[i])
        ]
        if newer:
            together = set().union(*(groups.get(i, {i}) for i in (older, *newer)))
            groups |= dict.fromkeys(together, together)
    result = list(ranked)
    for versions in {id(group): group for group in groups.values()}.values():
        newest_first = sorted(versions, key=lambda i: (ranked[i][1].item.updated_at, i), reverse=True)
        scores = sorted((ranked[i][1].score for i in versions), reverse=True)
        for i, score in zip(newest_first, scores, strict=True):
            candidate, scored = ranked[i]
            if score != scored.score:
                oldest_key, newest_key = (ranked[newest_first[at]][1].item.key for at in (-1, 0))
                note = f"newer than {oldest_key}" if score > scored.score else f"older than {newest_key}"
                result[i] = candidate, replace(scored, score=score, note=note)
    return result


def is_newer_version(this: tuple[Candidate, ScoredMemory], than: tuple[Candidate, ScoredMemory], alike: float) -> bool:
    """Whether one memory is a newer version of the other. alike: the cosine of their vectors."""
    new, old = this[1], than[1]
    if new.item.namespace != old.item.namespace or new.item.updated_at <= old.item.updated_at or _episodic(new.item):
        return False
    if new.relevance < MIN_RELEVANCE * old.relevance:
        return False
    if old.parts.get("time", 0.0) > new.parts.get("time", 0.0):  # asked about March: what was right in March
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
    return set(topics_of(item.value))


def _episodic(item: MemoryItem) -> bool:
    return item.value.get("type", TYPES.get(item.namespace)) == EPISODIC
