"""Retrieval: the memories that answer a query, ranked by their words, their meaning and their age."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement

from lib.checks import checked_number, renamed
from lib.database.tables import NAMESPACE_LENGTH, USER_ID_LENGTH, Memory
from lib.errors import InvalidInput, shown
from lib.llm.embeddings import Embedder, default_embedder
from lib.retrieval._candidates import Candidate, ParsedQuery, find_candidates, parse_query, updated_index
from lib.retrieval._index import bring_up_to_date
from lib.retrieval.ranking import BM25_K1, bm25, recency
from lib.retrieval.scored_memory import ScoredList, ScoredMemory
from lib.retrieval.superseded import Ranked, newest_first
from lib.store.filters import Conditions, check_conditions
from lib.store.memory_store import MemoryStore
from lib.store.values import check_name, check_text

HALF_LIFE_HOURS = 30 * 24.0
# Below this part of the best relevance a memory gets nothing for being new: age orders what is relevant, no more.
GATE = 0.5
MAX_QUERY_LENGTH = 10_000  # characters
MAX_LIMIT = 1000
# A relevance that means, with the local embedder, that something is known. The labelled questions for development hold
# 21 that no memory answers; the most relevant memory that any of them finds has 0.52. Above it, because 21 are few.
# It is dear: more than half of the other questions lose their answer with it, nearly all that use other words.
KNOWN_FROM = 0.55


@dataclass(frozen=True)
class Weights:
    """How much each part of a score counts; 0 switches one off.

    lexical: the query's words (BM25, stems). semantic: its meaning (embeddings). subject: the memory is about whom
    the query names. time: it happened when the query says. recency: it is new. importance: its value says so.
    """

    lexical: float = 0.3
    semantic: float = 0.7
    subject: float = 0.2
    time: float = 0.15
    recency: float = 0.005
    importance: float = 0.0

    def __post_init__(self) -> None:
        for part in fields(self):
            checked_number(f"the weight {part.name}", getattr(self, part.name), 0)
        if not self.lexical + self.semantic:
            raise InvalidInput("lexical and semantic can't both be 0: then nothing is relevant. Give one a weight.")


@renamed(k="limit")
def retrieve(
    store: MemoryStore,
    user_id: str,
    query: str,
    *,
    limit: int = 5,
    weights: Weights | None = None,
    half_life_hours: float = HALF_LIFE_HOURS,
    namespaces: Sequence[str] | None = None,
    min_relevance: float | None = None,
    newest_versions: bool = True,
    embedder: Embedder | None = None,
    **conditions: Any,
) -> ScoredList:
    """Return the memories of a user that answer the query best, best first, each with its score explained.

    query: a question or some words, as they come.
    limit: so many come, if the user has so many that meet the conditions.
    weights, half_life_hours: see `Weights` and `lib.retrieval.ranking.recency`.
    namespaces: only these. conditions: filter, topics, key_prefix, since, until, min_confidence, as for `store.search`.
    min_relevance: leave out what is less relevant than this, so that nothing comes back where nothing is known;
        `KNOWN_FROM` was chosen for that on labelled questions. None: the best `limit`, however good.
    newest_versions: of memories that tell one thing, the newest takes the best place of all: of those whose value names
        an older one's key as "supersedes", and of a few more, which are guessed. See `superseded`.
    embedder: None takes the local one. Memories that it hasn't seen are embedded first (see `reembed`).
    Errors: InvalidInput.

    Age can only reorder what is relevant: a memory with less than half of the best one's relevance gets nothing for
    being new.
    """
    weights = Weights() if weights is None else weights
    if not isinstance(weights, Weights):
        raise InvalidInput(f"weights must be a Weights, such as Weights(lexical=1), not {shown(weights)}.")
    check_name(user_id, "user_id", USER_ID_LENGTH)
    if len(check_text(query, "the query")) > MAX_QUERY_LENGTH:
        raise InvalidInput(f"the query must be a text of at most {MAX_QUERY_LENGTH:,} characters, not {shown(query)}.")
    checked_number("limit", limit, 0, MAX_LIMIT, whole=True)
    recency(0, half_life_hours)  # says what is wrong with it
    if min_relevance is not None:
        checked_number("min_relevance", min_relevance, 0)
    clauses = _clauses(store, namespaces, conditions)
    if not query.strip() or not limit:
        return ScoredList()

    embedder, now = embedder or default_embedder(), store.now()
    with updated_index(store.engine, user_id, embedder) as (connection, state):
        parsed = parse_query(connection, user_id, query, embedder, state, now)
        candidates = find_candidates(
            store.engine, connection, user_id, embedder.name, parsed, state, limit=limit, conditions=clauses, now=now
        )
    ranked = _scored(parsed, candidates, state.average_length, weights, half_life_hours, now)
    if newest_versions:
        ranked = newest_first(ranked, parsed.counts)
    # Of equals, the newest first.
    ranked.sort(key=lambda pair: (-pair[1].score, -pair[1].item.updated_at.timestamp(), -pair[0].index_id))
    memories = [memory for _, memory in ranked if min_relevance is None or memory.relevance >= min_relevance]
    return ScoredList(memories[:limit])


def reembed(store: MemoryStore, user_id: str, embedder: Embedder | None = None, *, progress: bool = True) -> int:
    """Index all memories of a user that this embedding model hasn't seen, with a progress bar; return how many.

    `retrieve` does it by itself; do it beforehand after a bulk load or a change of the model: about 100 memories a
    second on two cores. Interrupted, it goes on where it was.
    """
    check_name(user_id, "user_id", USER_ID_LENGTH)
    return bring_up_to_date(store.engine, user_id, embedder or default_embedder(), progress=progress)


def _clauses(
    store: MemoryStore, namespaces: Sequence[str] | None, conditions: dict[str, Any]
) -> list[ColumnElement[bool]]:
    check_conditions("retrieve", conditions)
    clauses = Conditions(**conditions).clauses(store.engine.dialect.name)
    if namespaces is not None:
        if isinstance(namespaces, str) or not isinstance(namespaces, Collection) or not namespaces:
            raise InvalidInput(f"namespaces must be a list with at least one namespace, not {shown(namespaces)}.")
        clauses.append(Memory.namespace.in_([check_name(name, "namespace", NAMESPACE_LENGTH) for name in namespaces]))
    return clauses


def _scored(
    query: ParsedQuery,
    candidates: list[Candidate],
    average_length: float,
    weights: Weights,
    half_life_hours: float,
    now: datetime,
) -> Ranked:
    """Return each candidate with its score: the sum of its parts, each from 0 to 1, times their weights."""
    matches = [bm25(c.terms, c.length, average_length, query.idfs) for c in candidates]
    # The best match counts the more, the more of the query it matches.
    full_match = math.sqrt(max(matches, default=0.0) * sum(query.idfs.values()) * (BM25_K1 + 1))
    parts = [
        {
            "lexical": match / full_match if match else 0.0,
            "semantic": max(0.0, float(candidate.vector @ query.vector)),
            # If the query names two, a memory of one of them would be as right as wrong.
            "subject": float(query.subjects == [candidate.subject]),
            "time": float(any(start <= candidate.happened_at < end for start, end in query.spans)),
            "recency": recency((now - candidate.item.updated_at).total_seconds() / 3600, half_life_hours),
            "importance": _importance(candidate.item.value),
        }
        for candidate, match in zip(candidates, matches, strict=True)
    ]
    contributions = [{part: getattr(weights, part) * value for part, value in values.items()} for values in parts]
    # How well each answers: by words, meaning, subject and time, and not by its age.
    answering = [sum(counted[part] for part in ("lexical", "semantic", "subject", "time")) for counted in contributions]
    least = GATE * max(answering, default=0.0)
    ranked: Ranked = []
    for candidate, values, counted, answers in zip(candidates, parts, contributions, answering, strict=True):
        if answers < least:
            counted |= {"recency": 0.0, "importance": 0.0}
        relevance = counted["lexical"] + counted["semantic"]
        ranked.append((candidate, ScoredMemory(candidate.item, sum(counted.values()), relevance, values, counted)))
    return ranked


def _importance(value: dict[str, Any]) -> float:
    """Return the value's own "importance", from 0 to 1; 0.5 where it says nothing."""
    number = value.get("importance")
    return min(1.0, max(0.0, float(number))) if isinstance(number, int | float) and number == number else 0.5
