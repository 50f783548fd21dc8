"""The nearest vectors by PostgreSQL's own approximate index (pgvector's HNSW), for users with very many memories.

Up to some ten thousand memories, comparing a question with all of them is faster, and exact: see `_candidates`.
"""

import warnings
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError
from tqdm.auto import tqdm

from lib.database import Lock, bound, wait_for
from lib.database.transactions import autocommit_connection, write_transaction

if TYPE_CHECKING:
    import numpy as np

    from lib.llm.embeddings import Embedder

# Entries that a search keeps in view, at most 1,000: more finds more, and takes longer. Of the ten nearest among
# 100,000 this finds 97 percent; 240 finds 98 and takes a fourth longer; with the sparser graph that pgvector makes by
# itself a tenth is missed. See tests/benchmarks.
EF_SEARCH = 160
GRAPH = "m = 24, ef_construction = 128"  # neighbours of each entry, and how many are looked at to choose them
BUILD_MEMORY = "512MB"  # for building it: if it doesn't fit, building takes many times as long
CHUNK = 1000  # vectors in one transaction

_SETTINGS = (
    "SELECT set_config('hnsw.ef_search', :ef, true), set_config('hnsw.iterative_scan', 'relaxed_order', true), "
    "set_config('enable_sort', 'off', true)"
)
_SCHEMA = (
    "SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace "
    "WHERE e.extname = 'vector'"
)

# "id", or with the user where the table is partitioned: see lib.postgres.partitioning.
_INDEX_KEY = (
    "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_index JOIN pg_attribute "
    "ON attrelid = indrelid AND attnum = ANY (indkey) WHERE indrelid = 'memory_index'::regclass AND indisprimary"
)


def table_of(dimensions: int) -> str:
    """The table that holds vectors of so many numbers, beside `memory_index`.

    >>> table_of(384)
    'memory_ann_384'
    """
    return f"memory_ann_{dimensions:d}"


def is_synchronized(connection: Connection, user_id: str, embedder: "Embedder", newest: int) -> bool:
    """Whether there is nothing to do for `synchronize`; also where there is no pgvector."""
    if connection.dialect.name != "postgresql":
        return True
    if _exists(connection, embedder.dimensions):
        return _newest(connection, user_id, embedder.name, embedder.dimensions) == newest
    if bound(connection) or not _available(connection):
        _note_exact_search()
        return True
    return False


def synchronize(engine: Engine | Connection, user_id: str, embedder: "Embedder") -> bool:
    """Bring the user's indexed vectors into the approximate index, with a progress bar.

    Creates extension, table and index where they are missing. False if the server has no pgvector for us.
    """
    import numpy as np

    if not (schema := _prepare(engine, embedder.dimensions)):
        if engine.dialect.name == "postgresql":
            _note_exact_search()
        return False
    table = table_of(embedder.dimensions)
    missing = text(
        f"SELECT i.id, i.vector FROM memory_index i LEFT JOIN {table} a ON a.id = i.id AND a.user_id = i.user_id "
        "WHERE i.user_id = :user_id AND i.model = :model AND i.id > :after AND a.id IS NULL ORDER BY i.id LIMIT :chunk"
    )
    insert = text(
        f"INSERT INTO {table} (id, user_id, model, vector) SELECT i.id, i.user_id, i.model, "
        f"CAST(v.vector AS {schema}.halfvec) "
        "FROM unnest(CAST(:ids AS bigint[]), CAST(:vectors AS text[])) AS v (id, vector) "
        "JOIN memory_index i ON i.id = v.id AND i.user_id = :user_id ON CONFLICT (id) DO NOTHING"
    )
    parameters: dict[str, Any] = {"user_id": user_id, "model": embedder.name, "after": -1, "chunk": CHUNK}
    with tqdm(desc="approximate index", unit="vector", unit_scale=True, disable=None) as bar:
        while True:
            with write_transaction(engine) as connection:
                rows = connection.execute(missing, parameters).all()
                if not rows:
                    break
                vectors = [_as_text(np.frombuffer(row.vector, "<f2")) for row in rows]
                connection.execute(insert, {"user_id": user_id, "ids": [row.id for row in rows], "vectors": vectors})
            parameters["after"] = rows[-1].id
            bar.update(len(rows))
    if bound(engine):
        return True
    with write_transaction(engine) as connection:
        # Last, if it isn't there: to build it over what is loaded takes a fifth of the time of adding to it.
        wait_for(connection, Lock.CREATE_VECTOR_INDEX)
        connection.execute(text("SELECT set_config('maintenance_work_mem', :memory, true)"), {"memory": BUILD_MEMORY})
        method = f"hnsw (vector {schema}.halfvec_ip_ops) WITH ({GRAPH})"
        connection.execute(text(f"CREATE INDEX IF NOT EXISTS ix_{table} ON {table} USING {method}"))
    return True


def _prepare(engine: Engine | Connection, dimensions: int) -> str | None:
    """Create extension and table where they are missing; the extension's schema, or None if we can't have it."""
    if engine.dialect.name != "postgresql":
        return None
    with autocommit_connection(engine) as connection:
        if not _available(connection):
            return None
        if bound(engine):  # to make tables is the owner's, as in a worker: it takes this one if it is there
            return _extension_schema(connection) if _exists(connection, dimensions) else None
        if not _extension_schema(connection):
            try:
                # Not in our schema: where that is one to practise in, dropping it would take others' vectors away.
                with connection.begin_nested() if isinstance(engine, Connection) else nullcontext():
                    connection.execute(text("CREATE EXTENSION IF NOT EXISTS vector WITH SCHEMA public"))
            except DBAPIError:  # not ours to create
                return None
        schema = _extension_schema(connection)
    table = table_of(dimensions)
    with write_transaction(engine) as connection:
        wait_for(connection, Lock.CREATE_VECTOR_INDEX)
        key = connection.scalar(text(_INDEX_KEY))
        for definition in (
            f"CREATE TABLE IF NOT EXISTS {table} (id bigint PRIMARY KEY, user_id varchar(50) NOT NULL, "
            f"model text NOT NULL, vector {schema}.halfvec({dimensions:d}) NOT NULL, "
            f"FOREIGN KEY ({key}) REFERENCES memory_index ({key}) ON DELETE CASCADE)",
            f"CREATE INDEX IF NOT EXISTS ix_{table}_of_user ON {table} (user_id, model, id)",
        ):
            connection.execute(text(definition))
    return schema


def nearest(
    connection: Connection, user_id: str, model: str, question: "np.ndarray", count: int, newest: int
) -> list[int] | None:
    """Row numbers of the memories nearest to the question, nearest first; about the best, not surely all of them.

    connection: in a transaction, because the settings of the search are made for it alone.
    newest: the user's largest row number; None comes back where the approximate index hasn't come so far, or found too
        few, as it may where others' memories lie between.
    """
    dimensions = len(question)
    if not _exists(connection, dimensions) or _newest(connection, user_id, model, dimensions) != newest:
        return None
    schema = _extension_schema(connection)
    # Other users' entries lie in the same index: go on searching until there are enough of this user's. And without
    # sorting, because a planner that knows too little of the table would read and sort all that the user has.
    connection.execute(text(_SETTINGS), {"ef": str(EF_SEARCH)})
    query = text(
        f"SELECT id FROM {table_of(dimensions)} WHERE user_id = :user_id AND model = :model "
        f"ORDER BY vector OPERATOR({schema}.<#>) CAST(:question AS {schema}.halfvec) LIMIT :count"
    )
    parameters = {"user_id": user_id, "model": model, "question": _as_text(question), "count": count}
    found = list(connection.scalars(query, parameters))
    connection.execute(text("SET LOCAL enable_sort = on"))
    return found if len(found) == count else None


def _exists(connection: Connection, dimensions: int) -> bool:
    if connection.dialect.name != "postgresql":
        return False
    # A role that row-level security was enabled for has no rights on a table that came later.
    may_read = text("SELECT coalesce(has_table_privilege(to_regclass(:name), 'SELECT'), false)")
    return connection.scalar(may_read, {"name": table_of(dimensions)})


def _note_exact_search() -> None:
    """Said once in a process, by the rules of Python's warnings."""
    warnings.warn(
        "this PostgreSQL has no pgvector that we may use, so a search compares the question with all memories of the "
        "user. Have an administrator run CREATE EXTENSION vector in this database.",
        stacklevel=2,
    )


def _available(connection: Connection) -> bool:
    """Whether the server has pgvector at all."""
    if connection.dialect.name != "postgresql":
        return False
    return connection.scalar(text("SELECT count(*) > 0 FROM pg_available_extensions WHERE name = 'vector'"))


def _newest(connection: Connection, user_id: str, model: str, dimensions: int) -> int:
    query = text(f"SELECT max(id) FROM {table_of(dimensions)} WHERE user_id = :user_id AND model = :model")
    return connection.scalar(query, {"user_id": user_id, "model": model}) or 0


def _extension_schema(connection: Connection) -> str | None:
    """The schema that pgvector was installed in; ours may not be on its path."""
    return connection.scalar(text(_SCHEMA))


def _as_text(vector: "np.ndarray") -> str:
    return "[" + ",".join(f"{number:.6g}" for number in vector.tolist()) + "]"
