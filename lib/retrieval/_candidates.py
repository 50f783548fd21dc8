"""The memories that may answer a query: found by the database, by their words and by their vectors."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Connection, Engine, select, text

from lib.database import TOKENS_VIEW, bound
from lib.database.transactions import read_transaction
from lib.retrieval._index import (
    INDEX,
    MEMORIES,
    SAME_MEMORY,
    SAMPLED_ONE_IN,
    VECTOR_TYPE,
    bring_up_to_date,
    in_parts,
    token,
)
from lib.retrieval._named_times import times_named
from lib.retrieval._vectors import IndexState, Matrices, state_of
from lib.retrieval.ranking import idf
from lib.store import of_user
from lib.store.filters import not_lapsed
from lib.store.items import MemoryItem
from lib.text_terms import STOP_WORDS, stem, words

if TYPE_CHECKING:
    import numpy as np

    from lib.llm.embeddings import Embedder

    Vector = np.ndarray[Any, Any]  # float32

BY_WORDS, BY_VECTOR = 150, 120  # candidates of each kind, at least; more where more memories are asked for
# Rows that a search by words looks at. Rare words come first, so what is left out holds nothing but common ones.
MAX_ROWS_READ = 2_000
MAX_QUERY_TERMS = 100  # of a query, the rarest: a whole page may be pasted, and SQLite takes 500 parts of a statement
FEW_SAMPLED = 25  # memories of the sample with a term: up to here, all are counted

_matrices = Matrices()
_ITEM = [MEMORIES.c[name] for name in MemoryItem.__dataclass_fields__]
_WHOLE = select(
    *_ITEM, *[INDEX.c[name] for name in ("id", "terms", "length", "vector", "happened_at", "subject")]
).join_from(INDEX, MEMORIES, SAME_MEMORY)
_BY_TOKEN = {
    "sqlite": "SELECT rowid AS id, :told{n} AS told FROM memory_terms WHERE memory_terms MATCH :token{n}",
    "postgresql": "SELECT id, CAST(:told{n} AS double precision) AS told FROM {index} "
    "WHERE user_id = :user_id AND tokens @@ CAST(:token{n} AS tsquery)",
}
_COUNTS = {
    "sqlite": """
        SELECT value, (SELECT doc FROM memory_vocabulary WHERE term = value || 's'),
            (SELECT doc FROM memory_vocabulary WHERE term = value) FROM json_each(:tokens)
    """,
    "postgresql": """
        SELECT t.token, sampled.n, CASE WHEN sampled.n > :few THEN 0 ELSE
            (SELECT count(*) FROM {index} WHERE user_id = :user_id AND tokens @@ CAST(t.token AS tsquery)) END
        FROM json_array_elements_text(CAST(:tokens AS json)) AS t (token), LATERAL (
            SELECT count(*) AS n FROM {index} WHERE user_id = :user_id AND tokens @@ CAST(t.token || 's' AS tsquery)
        ) AS sampled
    """,
}


@dataclass(frozen=True)
class Candidate:
    """One memory with what is needed to score it."""

    index_id: int
    item: MemoryItem
    terms: Mapping[str, float]
    length: float
    vector: "Vector"  # shorter than 1 where a memory and its neighbours differ
    happened_at: datetime
    subject: str | None


@dataclass(frozen=True)
class ParsedQuery:
    """A query, taken apart."""

    subjects: list[str]  # whom it names, folded, of those that the user has memories about
    counts: dict[str, int]  # its stems -> in how many memories of the user each stands
    idfs: dict[str, float]  # its stems -> how much each tells
    vector: "Vector"  # what it means
    spans: list[tuple[datetime, datetime]]  # the times that it names


def parse_query(
    connection: Connection, user_id: str, query: str, embedder: "Embedder", state: IndexState, now: datetime
) -> ParsedQuery:
    """Take a query apart, by what is known of the user."""
    folded = words(query)
    subjects = subjects_named(connection, user_id, [*folded, *map(" ".join, pairwise(folded))])
    # Whom a query names is a part of its own. In the words and the vector the name would only draw in all that this
    # person has ever said.
    names = {word for subject in subjects for word in subject.split()}
    terms = dict.fromkeys(stem(word) for word in folded if word not in STOP_WORDS and word not in names)
    counts = counts_of(connection, user_id, terms)
    idfs = {term: idf(state.count, min(count, state.count)) for term, count in counts.items()}
    rest = " ".join(part for part in query.split() if not names & set(words(part)))
    [vector] = embedder.embed([rest or query])
    return ParsedQuery(subjects, counts, idfs, vector, times_named(query, now))


@contextmanager
def updated_index(
    engine: Engine | Connection, user_id: str, embedder: "Embedder"
) -> Iterator[tuple[Connection, IndexState]]:
    """A transaction in which the index of the user is up to date, and its state."""
    for attempt in ("look", "after indexing"):
        with read_transaction(engine) as connection:
            if connection.dialect.name == "postgresql":
                # Every query here has its index; where the planner knows too little of the table, it would read it all.
                connection.execute(text("SET LOCAL enable_seqscan = off"))
            state = state_of(connection, user_id, embedder.name)
            if attempt != "look" or state.count >= state.memories:
                yield connection, state
                if connection is engine and connection.dialect.name == "postgresql":
                    connection.execute(text("SET LOCAL enable_seqscan = on"))  # the transaction goes on without us
                return
        bring_up_to_date(engine, user_id, embedder)


def find_candidates(
    engine: Engine | Connection,
    connection: Connection,
    user_id: str,
    model: str,
    query: ParsedQuery,
    state: IndexState,
    *,
    limit: int,
    conditions: Sequence[ColumnElement[bool]],
    now: datetime,
) -> list[Candidate]:
    """The memories to score: at least `limit`, if so many meet the conditions and haven't lapsed by `now`."""

    def find(among: list[int] | None) -> list[int]:
        numbers = by_words(connection, user_id, query.counts, query.idfs, limit=limit, among=among)
        numbers += by_vector(engine, connection, user_id, model, query.vector, state, limit=limit, among=among)
        return list(dict.fromkeys(numbers))

    here = [*conditions, not_lapsed(now)]
    numbers = find(allowed(connection, user_id, model, here) if conditions else None)
    candidates = load(connection, numbers, user_id, now)
    if not conditions and len(candidates) < len(numbers) < state.count:
        # Some have lapsed, and may have kept others out.
        candidates = load(connection, find(allowed(connection, user_id, model, here)), user_id, now)
    return candidates


def subjects_named(connection: Connection, user_id: str, names: Sequence[str]) -> list[str]:
    """Those of the names (folded) that are the subject of a memory of this user."""
    named = (INDEX.c.user_id == user_id, INDEX.c.subject.in_(list(names)))
    return sorted(connection.scalars(select(INDEX.c.subject).distinct().where(*named)))


def counts_of(connection: Connection, user_id: str, terms: Iterable[str]) -> dict[str, int]:
    """In how many memories of the user each term stands: exact if there are few, else about, by a sample of them."""
    tokens = {token(user_id, term): term for term in terms}
    statement = text(_COUNTS[connection.dialect.name].format(index=_with_tokens(connection)))
    parameters: dict[str, Any] = {"tokens": json.dumps(list(tokens))}
    if connection.dialect.name == "postgresql":
        parameters |= {"user_id": user_id, "few": FEW_SAMPLED}
    return {
        tokens[found]: (count or 0) if (sampled or 0) <= FEW_SAMPLED else sampled * SAMPLED_ONE_IN
        for found, sampled, count in connection.execute(statement, parameters)
    }


def by_words(
    connection: Connection,
    user_id: str,
    counts: Mapping[str, int],
    idfs: Mapping[str, float],
    *,
    limit: int = BY_WORDS,
    among: Sequence[int] | None = None,
) -> list[int]:
    """Row numbers of the memories whose matching terms tell the most together; newer ones first among equals.

    counts, idfs: the query's terms, as in `ParsedQuery`. among: only these, if given.
    """
    parts: list[str] = []
    parameters: dict[str, Any] = {"user_id": user_id}
    looked_at = 0
    for term in sorted(counts, key=lambda term: (counts[term], term)):  # rare terms first
        if len(parts) == MAX_QUERY_TERMS:
            break
        if not counts[term] or (parts and looked_at + counts[term] > MAX_ROWS_READ):
            continue
        looked_at += counts[term]
        parameters |= {f"told{len(parts)}": idfs[term], f"token{len(parts)}": token(user_id, term)}
        parts.append(_BY_TOKEN[connection.dialect.name].format(n=len(parts), index=_with_tokens(connection)))
    if not parts:
        return []
    limit = max(limit, BY_WORDS)
    query = f"SELECT id FROM ({' UNION ALL '.join(parts)}) AS matches GROUP BY id ORDER BY sum(told) DESC, id DESC"
    if among is None:
        return list(connection.scalars(text(f"{query} LIMIT :limit"), parameters | {"limit": limit}))
    wanted = set(among)
    return [number for number in connection.scalars(text(query), parameters) if number in wanted][:limit]


def by_vector(
    engine: Engine | Connection,
    connection: Connection,
    user_id: str,
    model: str,
    vector: "Vector",
    state: IndexState,
    *,
    limit: int = BY_VECTOR,
    among: Sequence[int] | None = None,
) -> list[int]:
    """Row numbers of the memories whose vectors are nearest to this one, nearest first. among: as for `by_words`."""
    import numpy as np

    limit = max(limit, BY_VECTOR)
    ids, matrix = _matrices.get(engine, connection, user_id, model, state)
    if among is not None:
        wanted = np.isin(ids, np.array(among, np.int64))
        ids, matrix = ids[wanted], matrix[wanted]
    if not len(ids):
        return []
    scores = matrix @ vector
    best = np.arange(len(scores))
    if len(scores) > limit:
        best = np.argpartition(-scores, limit)[:limit]
    nearest: list[int] = ids[best[np.lexsort((-ids[best], -scores[best]))]].tolist()
    return nearest


def load(connection: Connection, index_ids: Sequence[int], user_id: str, now: datetime) -> list[Candidate]:
    """The candidates with these row numbers that are this user's, and haven't lapsed by `now`."""
    import numpy as np

    candidates = []
    for some in in_parts(index_ids):
        for row in connection.execute(_WHOLE.where(INDEX.c.id.in_(some), of_user(INDEX.c.user_id, user_id))):
            item = MemoryItem(*row[: len(_ITEM)])
            if item.expires_at is None or item.expires_at > now:
                vector = np.frombuffer(row.vector, VECTOR_TYPE).astype(np.float32)
                terms = json.loads(row.terms)
                candidates.append(Candidate(row.id, item, terms, row.length, vector, row.happened_at, row.subject))
    return candidates


def allowed(connection: Connection, user_id: str, model: str, conditions: Sequence[ColumnElement[bool]]) -> list[int]:
    """Row numbers of all memories of the user that meet the conditions."""
    query = select(INDEX.c.id).join(MEMORIES, INDEX.c.memory_id == MEMORIES.c.id)
    theirs = (MEMORIES.c.user_id == user_id, of_user(INDEX.c.user_id, user_id), INDEX.c.model == model)
    return list(connection.scalars(query.where(*theirs, *conditions).order_by(INDEX.c.id)))


def _with_tokens(connection: Connection) -> str:
    # PostgreSQL takes no index for `@@` on a table with policies: an operator might tell of rows that they hide.
    return TOKENS_VIEW if bound(connection) else INDEX.name
