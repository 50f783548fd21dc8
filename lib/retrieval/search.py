"""Retrieval: the memories that answer a question, ranked by their words, their meaning and their age."""

import math
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import datetime
from itertools import pairwise
from typing import Any

from sqlalchemy import ColumnElement, Connection, text

from lib.database.tables import NAMESPACE_LENGTH, USER_ID_LENGTH, Memory
from lib.database.transactions import read_transaction
from lib.errors import InvalidInput, shown
from lib.llm.embeddings import Embedder, default_embedder
from lib.retrieval._ann import is_synchronized, synchronize
from lib.retrieval._candidates import (
    EXACT_UP_TO,
    Candidate,
    IndexState,
    allowed,
    by_vector,
    by_words,
    counts_of,
    load,
    neighbours_of,
    state_of,
    subjects_named,
)
from lib.retrieval._index import bring_up_to_date
from lib.retrieval.named_times import times_named
from lib.retrieval.ranking import BM25_K1, bm25, idf, recency
from lib.retrieval.scored_memory import ScoredList, ScoredMemory
from lib.retrieval.superseded import newer_versions
from lib.store.filters import Conditions, check_conditions, not_lapsed
from lib.store.memory_store import MemoryStore
from lib.store.values import check_name, check_text
from lib.text_terms import STOP_WORDS, stem, words

HALF_LIFE_HOURS = 30 * 24.0
# Below this part of the best relevance a memory gets nothing for being new: age orders what is relevant, no more.
GATE = 0.5
MAX_QUERY_LENGTH = 10_000  # characters
# A relevance that means, with the local embedder, that something is known. The labelled questions for development hold
# 21 that no memory answers; the most relevant memory that any of them finds has 0.52. Above it, because 21 are few.
# It is dear: more than half of the other questions lose their answer with it, nearly all that use other words.
KNOWN_FROM = 0.55


@dataclass(frozen=True)
class Weights:
    """How much each part of a score counts; 0 switches one off.

    lexical: the question's words (BM25, stems). semantic: its meaning (embeddings). subject: the memory is about whom
    the question names. time: it happened when the question says. recency: it is new. importance: its value says so.
    """

    lexical: float = 0.3
    semantic: float = 0.7
    subject: float = 0.2
    time: float = 0.15
    recency: float = 0.005
    importance: float = 0.0

    def __post_init__(self) -> None:
        for part in fields(self):
            weight = getattr(self, part.name)
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
                raise InvalidInput(f"the weight {part.name} must be a number of at least 0, not {shown(weight)}.")
        if not self.lexical + self.semantic:
            raise InvalidInput("lexical and semantic can't both be 0: then nothing is relevant. Give one a weight.")


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
    expand_neighbours: int = 0,
    embedder: Embedder | None = None,
    **conditions: Any,
) -> ScoredList:
    """The memories of a user that answer the question best, best first, each with its score explained.

    query: a question or some words, as they come.
    weights, half_life_hours: see `Weights` and `lib.retrieval.ranking.recency`.
    namespaces: only these. conditions: filter, topics, key_prefix, since, until, min_confidence, as for `store.search`.
    min_relevance: leave out what is less relevant than this, so that nothing comes back where nothing is known;
        `KNOWN_FROM` was chosen for that on labelled questions. None: the best `limit`, however good.
    newest_versions: of memories about one thing, the newest takes the best place of all of them: see `superseded`.
    expand_neighbours: bring so many memories before and after each episode of a conversation; they stand behind it.
    embedder: None takes the local one. Memories that it hasn't seen are embedded first (see `reembed`).
    Errors: InvalidInput.

    Age can only reorder what is relevant: a memory with less than half of the best one's relevance gets nothing for
    being new.
    """
    weights = Weights() if weights is None else weights
    if not isinstance(weights, Weights):
        raise InvalidInput(f"weights must be a Weights, such as Weights(lexical=1), not {shown(weights)}.")
    embedder = embedder or default_embedder()
    check_name(user_id, "user_id", USER_ID_LENGTH)
    if not isinstance(query, str) or len(query) > MAX_QUERY_LENGTH:
        raise InvalidInput(f"the query must be a text of at most {MAX_QUERY_LENGTH:,} characters, not {shown(query)}.")
    check_text(query, "the query")
    for number, name in ((limit, "limit"), (expand_neighbours, "expand_neighbours")):
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= 1000:
            raise InvalidInput(f"{name} must be a whole number from 0 to 1,000, not {shown(number)}.")
    recency(0, half_life_hours)  # says what is wrong with it
    a_number = isinstance(min_relevance, int | float) and not isinstance(min_relevance, bool)
    if min_relevance is not None and (not a_number or math.isnan(min_relevance)):
        raise InvalidInput(f"min_relevance must be a number, not {shown(min_relevance)}.")
    clauses = _clauses(store, namespaces, conditions)
    if not query.strip() or not limit:
        return ScoredList()
    now = store.now()
    with _ready(store, user_id, embedder) as (connection, state):
        question = _Question(connection, user_id, query, embedder, state, now)
        candidates = question.candidates(store, connection, clauses)
        ranked = _rank(question, candidates, weights, half_life_hours, newest_versions)
        best = [scored for scored in ranked if min_relevance is None or scored.relevance >= min_relevance][:limit]
        if expand_neighbours:
            best = _with_neighbours(connection, best, candidates, expand_neighbours, now)
    return ScoredList(best)


def reembed(store: MemoryStore, user_id: str, embedder: Embedder | None = None, *, progress: bool = True) -> int:
    """Index all memories of a user that this embedding model hasn't seen, with a progress bar; returns how many.

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


@contextmanager
def _ready(store: MemoryStore, user_id: str, embedder: Embedder) -> Iterator[tuple[Connection, IndexState]]:
    """A transaction in which the index of the user is up to date, and its state."""
    for attempt in ("look", "after indexing"):
        with read_transaction(store.engine) as connection:
            if connection.dialect.name == "postgresql":
                # Every query here has its index; where the planner knows too little of the table, it would read it all.
                connection.execute(text("SET LOCAL enable_seqscan = off"))
            state = state_of(connection, user_id, embedder.name)
            many = state.count > EXACT_UP_TO and not is_synchronized(connection, user_id, embedder, state.newest)
            if attempt != "look" or not (many or state.count < state.memories):
                yield connection, state
                if connection is store.engine and connection.dialect.name == "postgresql":
                    connection.execute(text("SET LOCAL enable_seqscan = on"))  # the transaction goes on without us
                return
        if state.count < state.memories:
            bring_up_to_date(store.engine, user_id, embedder)
        if max(state.count, state.memories) > EXACT_UP_TO:
            synchronize(store.engine, user_id, embedder)


class _Question:
    """A query, taken apart: whom it names, which terms it has, its vector, the times that it means."""

    def __init__(
        self, connection: Connection, user_id: str, query: str, embedder: Embedder, state: IndexState, now: datetime
    ):
        self.user_id, self.model, self.state, self.now = user_id, embedder.name, state, now
        folded = words(query)
        pairs = [" ".join(pair) for pair in pairwise(folded)]
        self.subjects = subjects_named(connection, user_id, [*folded, *pairs])
        # Whom a question names is a part of its own. In the words and the vector the name would only draw in all that
        # this person has ever said.
        names = {word for subject in self.subjects for word in subject.split()}
        terms = dict.fromkeys(stem(word) for word in folded if word not in STOP_WORDS and word not in names)
        self.counts = counts_of(connection, user_id, terms)
        self.idfs = {term: idf(self.state.count, min(count, self.state.count)) for term, count in self.counts.items()}
        rest = " ".join(part for part in query.split() if not names & set(words(part)))
        [self.vector] = embedder.embed([rest or query], progress=False)
        self.spans = times_named(query, now)

    def candidates(
        self, store: MemoryStore, connection: Connection, clauses: list[ColumnElement[bool]]
    ) -> list[Candidate]:
        here = [*clauses, not_lapsed(self.now)]
        among = allowed(connection, self.user_id, self.model, here) if clauses else None
        found = self._found(store, connection, among)
        loaded = load(connection, found, self.user_id, self.now)
        if among is None and len(loaded) < len(found) and self.state.count > len(found):
            # Some have lapsed, and may have kept others out.
            found = self._found(store, connection, allowed(connection, self.user_id, self.model, here))
            loaded = load(connection, found, self.user_id, self.now)
        return loaded

    def _found(self, store: MemoryStore, connection: Connection, among: list[int] | None) -> list[int]:
        found = by_words(connection, self.user_id, self.counts, self.idfs, among=among)
        found += by_vector(store.engine, connection, self.user_id, self.model, self.vector, self.state, among=among)
        return list(dict.fromkeys(found))

    def lexical(self, candidates: list[Candidate]) -> list[float]:
        """BM25 of each, from 0 to 1: the best match counts the more, the more of the question it matches."""
        scores = [bm25(c.terms, c.length, self.state.average_length, self.idfs) for c in candidates]
        best, most = max(scores, default=0.0), sum(self.idfs.values()) * (BM25_K1 + 1)
        return [score / math.sqrt(best * most) if score else 0.0 for score in scores]

    def semantic(self, candidates: list[Candidate]) -> list[float]:
        return [max(0.0, float(c.vector @ self.vector)) for c in candidates]

    def about_subject(self, candidate: Candidate) -> float:
        """1 if the question names one subject, and it is the memory's. Of two, it would be as right as wrong."""
        return float(len(self.subjects) == 1 and candidate.subject == self.subjects[0])

    def in_time(self, candidate: Candidate) -> float:
        return float(any(start <= candidate.happened_at < end for start, end in self.spans))


def _rank(
    question: _Question, candidates: list[Candidate], weights: Weights, half_life_hours: float, newest_versions: bool
) -> list[ScoredMemory]:
    """All candidates, best first; of equals, the newest."""
    scored = []
    lexical, semantic = question.lexical(candidates), question.semantic(candidates)
    for candidate, words_, meaning in zip(candidates, lexical, semantic, strict=True):
        age_hours = (question.now - candidate.item.updated_at).total_seconds() / 3600
        parts = {
            "lexical": words_,
            "semantic": meaning,
            "subject": question.about_subject(candidate),
            "time": question.in_time(candidate),
            "recency": recency(age_hours, half_life_hours),
            "importance": _importance(candidate.item.value),
        }
        scored.append((candidate, parts, {part: getattr(weights, part) * value for part, value in parts.items()}))
    bests = [_answering(contributions) for _, _, contributions in scored]
    least = GATE * max(bests, default=0.0)
    ranked = []
    for (candidate, parts, contributions), answering in zip(scored, bests, strict=True):
        if answering < least:
            contributions = contributions | {"recency": 0.0, "importance": 0.0}
        relevance = contributions["lexical"] + contributions["semantic"]
        score = sum(contributions.values())
        ranked.append((candidate, ScoredMemory(candidate.item, score, relevance, parts, contributions)))
    if newest_versions:
        ranked = newer_versions(ranked)
    ranked.sort(key=lambda pair: (-pair[1].score, -pair[1].item.updated_at.timestamp(), -pair[0].index_id))
    return [memory for _, memory in ranked]


def _answering(contributions: dict[str, float]) -> float:
    return sum(contributions[part] for part in ("lexical", "semantic", "subject", "time"))


def _importance(value: dict[str, Any]) -> float:
    """The value's own "importance", from 0 to 1; 0.5 where it says nothing."""
    number = value.get("importance")
    return min(1.0, max(0.0, float(number))) if isinstance(number, int | float) and number == number else 0.5


def _with_neighbours(
    connection: Connection, best: list[ScoredMemory], candidates: list[Candidate], reach: int, now: datetime
) -> list[ScoredMemory]:
    """Each episode followed by those that stand next to it in its conversation; none twice."""
    places = {(c.item.namespace, c.item.key): c for c in candidates}
    there = {(scored.item.namespace, scored.item.key) for scored in best}
    longer = []
    for scored in best:
        longer.append(scored)
        for item in neighbours_of(connection, places[scored.item.namespace, scored.item.key], reach, now):
            if (item.namespace, item.key) not in there:
                there.add((item.namespace, item.key))
                longer.append(ScoredMemory(item, scored.score, 0.0, note=f"next to {scored.item.key}"))
    return longer
