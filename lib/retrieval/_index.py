"""The index for the search by relevance: brought up to date before it is asked, so that `put` never waits for it."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any, TypeVar, cast

from sqlalchemy import Connection, Engine, Select, Table, and_, delete, insert, or_, select, text
from tqdm.auto import tqdm

from lib.database import IndexedMemory, bound
from lib.database.tables import Memory, as_utc
from lib.database.transactions import autocommit_connection, hold_user, write_transaction
from lib.errors import InvalidInput
from lib.store import of_user
from lib.text_terms import stems, words

if TYPE_CHECKING:
    import numpy as np

    from lib.llm.embeddings import Embedder

Value = TypeVar("Value")

SAMPLED_ONE_IN = 32  # memories: to count a term in 30,000 of them takes as long as the rest of a search
CHUNK = 256  # memories that are embedded and written at once
SHOW_PROGRESS_FROM = 200  # memories
MAX_CONTENT_LENGTH = 50_000  # characters of a memory by which it is found
MAX_MEMORY_TERMS = 10_000  # of a memory and its neighbours; three times as many would be too many for a tsvector
MANY = 1000  # memories: after so many, PostgreSQL's statistics are renewed
# A memory in a conversation is found by its neighbours' words too: a question stands before its answer.
NEIGHBOUR_COUNTS = {0: 1.0, -1: 2 / 3, 1: 1 / 3, -2: 1 / 3}
VECTOR_TYPE = "<f2"  # float16: half the space of float32, and cosines differ by less than 0.001

INDEX = cast(Table, IndexedMemory.__table__)
MEMORIES = cast(Table, Memory.__table__)
SAME_MEMORY = and_(INDEX.c.memory_id == MEMORIES.c.id, INDEX.c.user_id == MEMORIES.c.user_id)
_ROW = select(MEMORIES.c.id, MEMORIES.c.value, MEMORIES.c.updated_at)


@dataclass(frozen=True)
class _Indexable:
    """What of a memory goes into the index."""

    memory_id: str
    value: dict[str, Any]
    content: str
    alone: str  # the content without the name of who said it
    subject: str | None
    session: str | None
    happened_at: datetime
    old_hash: str | None  # context_hash, if it is indexed


def bring_up_to_date(
    engine: Engine | Connection, user_id: str, embedder: "Embedder", *, progress: bool | None = None
) -> int:
    """Index the user's memories that aren't, or are by another embedding model; returns how many were written.

    Each chunk is a transaction: interrupted, it goes on where it was. Two at once do the same work twice, and leave
    each memory indexed once. What is changed meanwhile is left to the next search.
    """
    with autocommit_connection(engine) as connection:
        waiting = list(connection.scalars(_missing(user_id, embedder.name)))
    show = progress if progress is not None else len(waiting) >= SHOW_PROGRESS_FROM
    written = 0
    with tqdm(total=len(waiting), unit="memory", desc="indexing", disable=not show) as bar:
        for chunk in in_parts(waiting, CHUNK):
            with autocommit_connection(engine) as connection:
                these = _ROW.where(MEMORIES.c.id.in_(chunk), of_user(MEMORIES.c.user_id, user_id))
                new = [_indexable(*row) for row in connection.execute(these)]
                known = _same_sessions(connection, user_id, {row.session for row in new if row.session})
            written += _write(engine, user_id, _entries(user_id, new, known, embedder))
            bar.update(len(chunk))
    if written >= MANY and isinstance(engine, Engine) and engine.dialect.name == "postgresql" and not bound(engine):
        with autocommit_connection(engine) as connection:
            # It comes by itself, a minute later. Then counting needs no look at the tables any more.
            for table in ("memory_index", "memories"):
                connection.execute(text(f"VACUUM (ANALYZE, SKIP_LOCKED) {table}"))  # not ours: a warning, and nothing
    return written


def content_of(value: dict[str, Any]) -> str:
    """The text of a value: its content, or else all of its texts and numbers.

    >>> content_of({"content": "Sails"}), content_of({"city": "Lund", "rooms": [1, 2]})
    ('Sails', 'Lund 1 2')
    """
    content = value.get("content")
    if isinstance(content, str):
        return content
    return " ".join(_leaves(value))


def place_of(value: dict[str, Any], updated_at: datetime) -> tuple[str | None, str | None, datetime]:
    """(session, subject, when it happened) as a value tells them.

    session: "session", or of an episode its "source". subject: "subject", or else "speaker".
    When: "timestamp" in ISO 8601 with its zone, of the years 2 to 9998, or else `updated_at`.
    """
    session = value.get("session")
    if session is None and value.get("type") == "episodic":
        session = value.get("source")
    subject = value.get("subject") or value.get("speaker")
    try:
        happened_at = as_utc(datetime.fromisoformat(value["timestamp"]))
    except (KeyError, TypeError, ValueError, OverflowError, InvalidInput):
        happened_at = updated_at
    if not 1 < happened_at.year < 9999:  # at the ends of time, another zone's clock shows a year that Python hasn't
        happened_at = updated_at
    named = _named(subject) if isinstance(subject, str) else None
    return str(session) if isinstance(session, str | int) else None, named or None, happened_at


def _named(subject: str) -> str:
    """A name by its words, as a question has it: without case, accents, apostrophes and hyphens."""
    return " ".join(words(subject))


def token(user_id: str, term: str) -> str:
    """A term of one user, as the full-text index holds it: other users' memories are never even counted.

    >>> token("ada", "exam") == token("bob", "exam")
    False
    """
    return hashlib.blake2b(f"{user_id}\0{term}".encode(), digest_size=8).hexdigest()


def sample_token(token: str) -> str:
    """The same term in the sample of the memories, by which common terms are counted."""
    return f"{token}s"


def _missing(user_id: str, model: str) -> Select[str]:
    """The ids of the memories that aren't indexed by this model, oldest first."""
    query = select(MEMORIES.c.id).select_from(MEMORIES.outerjoin(INDEX, SAME_MEMORY))
    missing = or_(INDEX.c.id.is_(None), INDEX.c.model != model)
    return query.where(MEMORIES.c.user_id == user_id, missing).order_by(MEMORIES.c.id)


def _same_sessions(connection: Connection, user_id: str, sessions: set[str]) -> list[_Indexable]:
    """The memories of these sessions that are indexed, by whatever model."""
    memories: list[_Indexable] = []
    for some in in_parts(sorted(sessions)):
        query = _ROW.add_columns(INDEX.c.context_hash).join(INDEX, SAME_MEMORY)
        rows = connection.execute(query.where(INDEX.c.user_id == user_id, INDEX.c.session.in_(some)))
        memories += [_indexable(*row) for row in rows]
    return memories


def _indexable(memory_id: str, value: dict[str, Any], updated_at: datetime, old_hash: str | None = None) -> _Indexable:
    content = content_of(value)
    session, subject, happened_at = place_of(value, updated_at)
    speaker, _, text_alone = content.partition(":")
    alone = (text_alone.strip() if subject and _named(speaker) == subject else "") or content
    return _Indexable(memory_id, value, content, alone, subject, session, happened_at, old_hash)


def _entries(
    user_id: str, new: list[_Indexable], known: list[_Indexable], embedder: "Embedder"
) -> list[tuple[_Indexable, dict[str, Any]]]:
    """The rows to write: of the new memories, and of their neighbours whose surroundings have changed with them."""
    import numpy as np

    ids = {row.memory_id for row in new}
    everything = new + [row for row in known if row.memory_id not in ids]
    everything.sort(key=lambda row: (row.session or "", row.happened_at, row.memory_id))
    rows: list[tuple[_Indexable, str, dict[str, float], str]] = []
    for session, group in groupby(everything, key=lambda row: row.session):
        members = list(group)
        counts = [Counter(stems(row.content[:MAX_CONTENT_LENGTH])) for row in members]
        for position, row in enumerate(members):
            terms: dict[str, float] = defaultdict(float)
            for offset, weight in NEIGHBOUR_COUNTS.items() if session else [(0, 1.0)]:
                if 0 <= position + offset < len(members):
                    for term, count in counts[position + offset].items():
                        terms[term] += weight * count
            beside = members[max(0, position - 1) : position + 2] if session else []
            context = " ".join(member.content for member in beside)  # embedded too, beside the memory by itself
            seen = json.dumps([row.content, context, sorted(terms.items())])
            digest = hashlib.blake2b(seen.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
            if row.memory_id in ids or row.old_hash != digest:
                rows.append((row, context or row.alone, dict(terms), digest))
    texts = [row.alone for row, *_ in rows] + [context for _, context, *_ in rows]
    vectors = embedder.embed(texts)
    # By itself and with its neighbours, half each. The mean of two dot products is that with the mean.
    vectors = ((vectors[: len(rows)] + vectors[len(rows) :]) / 2).astype(np.dtype(VECTOR_TYPE))
    return [
        (row, _entry(user_id, row, terms, digest, vector, embedder.name))
        for (row, _, terms, digest), vector in zip(rows, vectors, strict=True)
    ]


def _entry(
    user_id: str, row: _Indexable, terms: dict[str, float], digest: str, vector: "np.ndarray[Any, Any]", model: str
) -> dict[str, Any]:
    terms = {term: round(count, 2) for term, count in islice(terms.items(), MAX_MEMORY_TERMS)}
    tokens = sorted({token(user_id, term) for term in terms})
    if int(digest, 16) % SAMPLED_ONE_IN == 0:
        tokens += [sample_token(each) for each in tokens]
    return {
        "memory_id": row.memory_id,
        "user_id": user_id,
        "model": model,
        "vector": vector.tobytes(),
        "terms": json.dumps(terms, ensure_ascii=False, separators=(",", ":")),
        "tokens": " ".join(tokens),
        "length": round(sum(terms.values()), 2),
        "happened_at": row.happened_at,
        "session": row.session,
        "subject": row.subject,
        "context_hash": digest,
    }


def _write(engine: Engine | Connection, user_id: str, entries: list[tuple[_Indexable, dict[str, Any]]]) -> int:
    """Replace these memories' rows, in one transaction; those that have changed meanwhile are left out."""
    values = {row.memory_id: row.value for row, _ in entries}
    with write_transaction(engine) as connection:
        if not hold_user(connection, user_id):
            return 0
        # On PostgreSQL they are held until we end, so that no update comes between this look and our rows.
        same: set[str] = set()
        for some in in_parts(sorted(values)):
            theirs = (MEMORIES.c.id.in_(some), of_user(MEMORIES.c.user_id, user_id))
            held = select(MEMORIES.c.id, MEMORIES.c.value).where(*theirs).with_for_update(read=True)
            same |= {row.id for row in connection.execute(held) if row.value == values[row.id]}
            connection.execute(delete(INDEX).where(INDEX.c.memory_id.in_(some), of_user(INDEX.c.user_id, user_id)))
        rows = [entry for row, entry in entries if row.memory_id in same]
        if not rows:
            return 0
        if connection.dialect.name == "postgresql":
            connection.execute(insert(INDEX), rows)
        else:
            tokens = [row.pop("tokens") for row in rows]
            ids = connection.scalars(insert(INDEX).returning(INDEX.c.id, sort_by_parameter_order=True), rows)
            terms = [{"id": number, "tokens": joined} for number, joined in zip(ids, tokens, strict=True)]
            connection.execute(text("INSERT INTO memory_terms (rowid, tokens) VALUES (:id, :tokens)"), terms)
    return len(rows)


def in_parts(values: Sequence[Value], size: int = 500) -> Iterable[Sequence[Value]]:
    """Values in lists that a database takes as parameters."""
    return (values[start : start + size] for start in range(0, len(values), size))


def _leaves(part: Any) -> list[str]:
    if isinstance(part, dict):
        return [leaf for inner in part.values() for leaf in _leaves(inner)]
    if isinstance(part, list):
        return [leaf for inner in part for leaf in _leaves(inner)]
    return [] if part is None or isinstance(part, bool) else [str(part)]
