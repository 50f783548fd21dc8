"""Writing many memories: in batches, each as one statement on PostgreSQL, and what its planner is told afterwards."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Engine, text

from lib.database.transactions import autocommit_connection
from lib.store.upsert import upsert_statement

BATCH_ROWS = 1000
BATCH_CHARACTERS = 10_000_000  # PostgreSQL takes up to 1 GB at once

Row = Mapping[str, Any]  # of the columns of `memories`

_ARRAYS = ("id", "namespace", "key", "value", "search_text")  # the columns in which the rows of a batch differ
# A batch as five arrays in binary form. Executed row by row, even in a pipeline, 20,000 memories take three times as
# long, and longer than LangGraph's store does.
_UPSERT_ARRAYS = """
    INSERT INTO memories (id, user_id, namespace, key, value, search_text, created_at, updated_at)
    SELECT id, %(user_id)s, namespace, key, value::jsonb, search_text, %(created_at)s, %(updated_at)s
    FROM unnest(
        %(id)b::text[]::uuid[], %(namespace)b::text[], %(key)b::text[], %(value)b::text[], %(search_text)b::text[]
    ) AS new (id, namespace, key, value, search_text)
    ON CONFLICT (user_id, namespace, key) DO UPDATE
        SET value = excluded.value, search_text = excluded.search_text, updated_at = excluded.updated_at,
            expires_at = NULL
"""
_UPSERT_SQLITE = upsert_statement(is_postgres=False)

# Of the columns that addresses are made of; one that is at work on the table already is not waited for.
_ANALYZE = "ANALYZE (SKIP_LOCKED) memories (user_id, namespace, key)"
# Twice as many pages as then, or fewer rows in all than were just written: the table was empty then, its pages not.
# How many rows there are, nobody knows without counting.
_HAS_DOUBLED = text("""
    SELECT pg_relation_size(oid) > 2 * relpages * current_setting('block_size')::bigint OR reltuples < :count
    FROM pg_class WHERE oid = 'memories'::regclass
""")


def batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Rows in lists that are small enough to be sent at once."""
    batch: list[Row] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += len(row["value"]) + len(row["search_text"])
        if len(batch) == BATCH_ROWS or size >= BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def upsert_batch(connection: Connection, rows: Sequence[Row]) -> None:
    """Write memories of one user and one moment, no two with one key, in a transaction that is open."""
    if connection.dialect.name == "postgresql":
        arrays = {name: [row[name] for row in rows] for name in _ARRAYS}
        connection.exec_driver_sql(_UPSERT_ARRAYS, {**rows[0], **arrays})
    else:
        connection.execute(_UPSERT_SQLITE, rows)


def tell_planner(engine: Engine | Connection, count: int) -> None:
    """Renew the statistics that PostgreSQL plans by, if the table has doubled since they were made.

    count: memories of a batch that was just written; after a small one nothing is done.
    It does so by itself, but up to a minute later. Until then it takes a user that it hasn't seen for one with a
    single memory, and reads a whole namespace for one key, or for the newest ten: 2 ms at 20,000 memories,
    instead of 0.15.
    """
    if engine.dialect.name != "postgresql" or isinstance(engine, Connection) or count < BATCH_ROWS:
        return
    with autocommit_connection(engine) as connection:
        if connection.scalar(_HAS_DOUBLED, {"count": count}):
            connection.exec_driver_sql(_ANALYZE)  # by anyone but the table's owner: a warning, and nothing
