"""Superseded memories: of two that tell one thing the newer is right, even if the older sounds more like the query."""

import re
from collections.abc import Collection
from dataclasses import replace

from lib.retrieval._candidates import Candidate
from lib.retrieval.scored_memory import ScoredMemory
from lib.store.items import MemoryItem
from lib.store.namespaces import EPISODIC, TYPES

MAX_COMPARED = 30  # of the ranking's top; one that says what it supersedes may stand anywhere
# What is guessed needs a word of change in the newer one, and two sentences that are alike: by their vectors, or a
# little less by these and in that share of the words. English; in other languages only `supersedes` counts.
CHANGE = re.compile(
    r"\b(?:now|no longer|not any ?more|instead|moved?|chang\w+|since|switch\w*|replac\w*|became|becomes?|g[ai]ven? up|"
    r"left|sold|drop\w*|cut|raised|lowered|migrat\w*|rebook\w*|retired|slipped|upgrad\w*|second time|not \w+:?|"
    r"from \w+ on|from (?:\d|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)\w*)\b",
    re.IGNORECASE,
)
MIN_ALIKE, MIN_NEARLY_ALIKE, MIN_SHARED_WORDS = 0.7, 0.6, 0.4
MIN_RELEVANCE = 0.7  # of the older one's: the newer must be an answer, too

Ranked = list[tuple[Candidate, ScoredMemory]]


def newest_first(ranked: Ranked, terms: Collection[str]) -> Ranked:
    """Return the same memories, where those that tell one thing have exchanged their scores: the newest has the best.

    All others keep their places: a newer one takes that of the older one, and pushes nothing else down. An episode is
    never superseded: what happened, happened. terms: the stems of the query.
    """
    order = sorted(range(len(ranked)), key=lambda i: -ranked[i][1].score)
    top = order[:MAX_COMPARED]
    may_be_newer = [*top, *(i for i in order[MAX_COMPARED:] if superseded_keys(ranked[i][1].item))]
    groups: dict[int, set[int]] = {}  # each memory that is superseded, or supersedes -> all of them, itself too
    for older in top:
        if newer := [i for i in may_be_newer if is_newer_version(ranked[i], ranked[older], terms)]:
            together = set().union(*(groups.get(i, {i}) for i in (older, *newer)))
            groups |= dict.fromkeys(together, together)
    result = list(ranked)
    for versions in {id(group): group for group in groups.values()}.values():
        newest = sorted(versions, key=lambda i: (ranked[i][1].item.updated_at, i), reverse=True)
        scores = sorted((ranked[i][1].score for i in versions), reverse=True)
        for i, score in zip(newest, scores, strict=True):
            candidate, scored = ranked[i]
            if score != scored.score:
                oldest_key, newest_key = (ranked[newest[at]][1].item.key for at in (-1, 0))
                note = f"newer than {oldest_key}" if score > scored.score else f"older than {newest_key}"
                result[i] = candidate, replace(scored, score=score, note=note)
    return result


def is_newer_version(
    this: tuple[Candidate, ScoredMemory], than: tuple[Candidate, ScoredMemory], terms: Collection[str]
) -> bool:
    """Tell whether one memory supersedes the other: because it says so, or by a guess that rather misses one.

    Keys count for nothing: `doc7` and `doc8` may be anything.
    """
    (new, scored), (old, scored_old) = this, than
    if new.item.namespace != old.item.namespace or new.item.updated_at <= old.item.updated_at or _episodic(old.item):
        return False
    if scored_old.parts.get("time", 0.0) > scored.parts.get("time", 0.0):  # asked about March: what was right in March
        return False
    if old.item.key in superseded_keys(new.item):
        return True
    if _episodic(new.item) or scored.relevance < MIN_RELEVANCE * scored_old.relevance:
        return False
    shared = old.terms.keys() & new.terms.keys()
    if any(term in old.terms and term not in shared for term in terms):  # asked for by name: chemistry, not physics
        return False
    content = new.item.value.get("content")
    if not isinstance(content, str) or not CHANGE.search(content):
        return False
    alike = float(new.vector @ old.vector)
    in_words = len(shared) >= MIN_SHARED_WORDS * max(1, min(len(old.terms), len(new.terms)))
    return alike >= MIN_ALIKE or (alike >= MIN_NEARLY_ALIKE and in_words)


def superseded_keys(item: MemoryItem) -> set[str]:
    """Return the keys of the memories in its namespace that a memory supersedes, by "supersedes" in its value.

    >>> from datetime import UTC, datetime
    >>> value = {"content": "The exam is on 29 May.", "supersedes": "exam_date"}
    >>> superseded_keys(MemoryItem("ada", "facts", "k7", value, datetime.now(UTC), datetime.now(UTC)))
    {'exam_date'}
    """
    named = item.value.get("supersedes")
    return {key for key in (named if isinstance(named, list) else [named]) if isinstance(key, str)} - {item.key}


def _episodic(item: MemoryItem) -> bool:
    return item.value.get("type", TYPES.get(item.namespace)) == EPISODIC
