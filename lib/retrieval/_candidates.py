"""The memories that may answer a question: found by the database, by their words and by their vectors."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Connection,
    Engine,
    any_,
    bindparam,
    cast,
    func,
    select,
    text,
    tuple_,
)

from lib.database import TOKENS_VIEW, IndexedMemory, bound
from lib.database.tables import Memory
from lib.retrieval._ann import nearest
from lib.retrieval._index import SAME_MEMORY, SAMPLED_ONE_IN, VECTOR_TYPE, sample_token, token
from lib.retrieval._vectors import Matrices
from lib.store import of_user
from lib.store.filters import not_lapsed
from lib.store.items import MemoryItem

if TYPE_CHECKING:
    import numpy as np

BY_WORDS, BY_VECTOR = 150, 120  # candidates of each kind
# Rows that a search by words looks at. Rare words come first, so what is left out holds nothing but common ones.
LOOKED_AT = 2_000
MAX_TERMS = 100  # of a question, the rarest: a whole page may be pasted, and SQLite takes 500 parts of a query
FEW_SAMPLED = 25  # memories of the sample with a term: up to here, all are counted
EXACT_UP_TO = 10_000  # memories of a user; beyond that, PostgreSQL's approximate index is asked, where there is one

_matrices = Matrices()
_index = IndexedMemory.__table__
_memories = Memory.__table__
_ITEM = select(
    *[_memories.c[name] for name in ("user_id", "namespace", "key", "value", "created_at", "updated_at", "expires_at")]
)
_WHOLE = _ITEM.add_columns(
    *[_index.c[name] for name in ("id", "terms", "length", "vector", "happened_at", "session", "subject")]
)
_BY_TOKEN = {
    "sqlite": "SELECT rowid AS id, :told{n} AS told FROM memory_terms WHERE memory_terms MATCH :token{n}",
    "postgresql": "SELECT id, CAST(:told{n} AS double precision) AS told FROM {index} "
    "WHERE user_id = :user_id AND tokens @@ CAST(:token{n} AS tsquery)",
}
_COUNTS = """
    SELECT t.token, sampled.n, CASE WHEN sampled.n > :few THEN 0 ELSE
        (SELECT count(*) FROM {index} WHERE user_id = :user_id AND tokens @@ CAST(t.token AS tsquery)) END
    FROM unnest(CAST(:tokens AS text[])) AS t (token), LATERAL (
        SELECT count(*) AS n FROM {index} WHERE user_id = :user_id AND tokens @@ CAST(t.token || 's' AS tsquery)
    ) AS sampled
"""


@dataclass(frozen=True)
class Candidate:
    """One memory with what is needed to score it."""

    index_id: int
    item: MemoryItem
    terms: Mapping[str, float]
    length: float
    vector: "np.ndarray"  # float32; shorter than 1 where a memory and its neighbours differ
    happened_at: datetime
    session: str | None
    subject: str | None


@dataclass(frozen=True)
class IndexState:
    """A user's index as a whole."""

    memories: int  # of the user, indexed or not
    count: int  # indexed by this model
    average_length: float
    newest: int  # the largest row number
    checksum: int  # sum of the row numbers: any change of the index changes one of the three


def state_of(connection: Connection, user_id: str, model: str) -> IndexState:
    """Read it: one pass over an index of each table."""
    memories = select(func.count()).where(_memories.c.user_id == user_id).scalar_subquery()
    columns = func.count(), func.sum(_index.c.length), func.max(_index.c.id), func.sum(_index.c.id)
    query = select(memories, *columns).where(_index.c.user_id == user_id, _index.c.model == model)
    memories, count, length, newest, checksum = connection.execute(query).one()
    return IndexState(memories, count, (length or 0.0) / count if count else 0.0, newest or 0, int(checksum or 0))


def subjects_named(connection: Connection, user_id: str, names: Sequence[str]) -> list[str]:
    """Those of the names (folded) that are the subject of a memory of this user."""
    query = select(_index.c.subject).distinct().where(_index.c.user_id == user_id, _index.c.subject.in_(list(names)))
    return sorted(connection.scalars(query))


def counts_of(connection: Connection, user_id: str, terms: Iterable[str]) -> dict[str, int]:
    """In how many memories of the user each term stands: exact if there are few, else about, by a sample of them."""
    tokens = {token(user_id, term): term for term in terms}
    if not tokens:
        return {}
    if connection.dialect.name == "postgresql":
        counts = text(_COUNTS.format(index=_with_tokens(connection)))
        rows = connection.execute(counts, {"user_id": user_id, "tokens": list(tokens), "few": FEW_SAMPLED}).all()
    else:
        one = text("SELECT doc FROM memory_vocabulary WHERE term = :token")
        rows = [
            tuple(connection.scalar(one, {"token": which}) or 0 for which in (found, sample_token(found)))
            for found in tokens
        ]
        rows = [(found, sampled, count) for found, (count, sampled) in zip(tokens, rows, strict=True)]
    return {
        tokens[found]: count if sampled <= FEW_SAMPLED else sampled * SAMPLED_ONE_IN for found, sampled, count in rows
    }


def by_words(
    connection: Connection,
    user_id: str,
    counts: Mapping[str, int],
    idfs: Mapping[str, float],
    *,
    among: Sequence[int] | None = None,
) -> list[int]:
    """Row numbers of the memories whose matching terms tell the most together; newer ones first among equals.

    counts, idfs: the question's terms, as from `counts_of` and `ranking.idf`. among: only these, if given.
    """
    parts, parameters, looked_at = [], {"user_id": user_id}, 0
    for term in sorted(counts, key=lambda term: (counts[term], term)):  # rare terms first
        if len(parts) == MAX_TERMS:
            break
        if not counts[term] or (parts and looked_at + counts[term] > LOOKED_AT):
            continue
        looked_at += counts[term]
        parts.append(_BY_TOKEN[connection.dialect.name].format(n=len(parts), index=_with_tokens(connection)))
        parameters |= {f"told{len(parts) - 1}": idfs[term], f"token{len(parts) - 1}": token(user_id, term)}
    if not parts:
        return []
    query = f"SELECT id FROM ({' UNION ALL '.join(parts)}) AS found GROUP BY id ORDER BY sum(told) DESC, id DESC"
    if among is None:
        return list(connection.scalars(text(f"{query} LIMIT :most"), parameters | {"most": BY_WORDS}))
    wanted = set(among)
    return [number for number in connection.scalars(text(query), parameters) if number in wanted][:BY_WORDS]


def by_vector(
    engine: Engine | Connection,
    connection: Connection,
    user_id: str,
    model: str,
    question: "np.ndarray",
    state: IndexState,
    *,
    among: Sequence[int] | None = None,
) -> list[int]:
    """Row numbers of the memories whose vectors are nearest to the question's, nearest first.

    Exact, but for users with more than `EXACT_UP_TO` memories where PostgreSQL has pgvector. among: as for `by_words`.
    """
    import numpy as np

    if state.count > EXACT_UP_TO and among is None:
        found = nearest(connection, user_id, model, question, BY_VECTOR, state.newest)
        if found is not None:
            return found
    ids, matrix = _matrices.get(engine, connection, user_id, model, state)
    if among is not None:
        wanted = np.isin(ids, np.array(among, np.int64))
        ids, matrix = ids[wanted], matrix[wanted]
    if not len(ids):
        return []
    scores = matrix @ question
    best = np.arange(len(scores))
    if len(scores) > BY_VECTOR:
        best = np.argpartition(-scores, BY_VECTOR)[:BY_VECTOR]
    return ids[best[np.lexsort((-ids[best], -scores[best]))]].tolist()


def load(connection: Connection, index_ids: Sequence[int], user_id: str, now: datetime) -> list[Candidate]:
    """The candidates with these row numbers that are this user's, and haven't lapsed by `now`."""
    import numpy as np

    query = _WHOLE.join_from(_index, _memories, SAME_MEMORY).where(of_user(_index.c.user_id, user_id))
    found = []
    for start in range(0, len(index_ids), 500):
        some = list(index_ids[start : start + 500])
        for row in connection.execute(query.where(_one_of(connection, some))):
            if row.expires_at and row.expires_at <= now:
                continue
            vector = np.frombuffer(row.vector, VECTOR_TYPE).astype(np.float32)
            found.append(Candidate(row.id, MemoryItem(*row[:7]), json.loads(row.terms), row.length, vector, *row[11:]))
    return found


def _with_tokens(connection: Connection) -> str:
    # PostgreSQL takes no index for `@@` on a table with policies: an operator might tell of rows that they hide.
    return TOKENS_VIEW if bound(connection) else _index.name


def _one_of(connection: Connection, index_ids: list[int]) -> ColumnElement[bool]:
    if connection.dialect.name == "postgresql":  # an array: hundreds of parameters take the driver long
        return _index.c.id == any_(cast(index_ids, ARRAY(BigInteger)))
    return _index.c.id.in_(index_ids)


def neighbours_of(connection: Connection, candidate: Candidate, reach: int, now: datetime) -> list[MemoryItem]:
    """Up to `reach` memories before and after it in its conversation, in the order of the conversation."""
    if candidate.session is None:
        return []
    here = tuple_(_index.c.happened_at, _index.c.memory_id)
    own = select(_index.c.memory_id).where(
        _index.c.id == candidate.index_id, of_user(_index.c.user_id, candidate.item.user_id)
    )
    place = tuple_(bindparam("at", candidate.happened_at, _index.c.happened_at.type), own.scalar_subquery())
    query = _ITEM.join_from(_index, _memories, SAME_MEMORY).where(
        _index.c.user_id == candidate.item.user_id, _index.c.session == candidate.session, not_lapsed(now)
    )
    before = query.where(here < place).order_by(_index.c.happened_at.desc(), _index.c.memory_id.desc()).limit(reach)
    after = query.where(here > place).order_by(_index.c.happened_at, _index.c.memory_id).limit(reach)
    rows = [*reversed(connection.execute(before).all()), *connection.execute(after).all()]
    return [MemoryItem(*row) for row in rows]


def allowed(connection: Connection, user_id: str, model: str, conditions: Sequence[ColumnElement[bool]]) -> list[int]:
    """Row numbers of all memories of the user that meet the conditions."""
    query = select(_index.c.id).join(_memories, _index.c.memory_id == _memories.c.id)
    theirs = (_memories.c.user_id == user_id, of_user(_index.c.user_id, user_id), _index.c.model == model)
    return list(connection.scalars(query.where(*theirs, *conditions).order_by(_index.c.id)))
