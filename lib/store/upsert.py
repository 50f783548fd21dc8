"""Writing memories: insert, or update the one with the same key, in one statement."""

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, Engine, Text, bindparam, cast, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import JSONB

from lib.database import DirectStatement
from lib.database.tables import Memory
from lib.database.transactions import autocommit_connection

BATCH_ROWS = 1000
BATCH_CHARACTERS = 10_000_000  # PostgreSQL takes up to 1 GB at once

_memories = Memory.__table__
_REPLACED = ("value", "search_text", "updated_at", "expires_at")  # the rest of an existing memory stays
_ARRAYS = ("id", "namespace", "key", "value", "search_text")  # the columns in which the rows of a batch differ

# A batch as five arrays in binary form: twice as fast as a statement for each row.
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

# Of the columns that addresses are made of; one that is at work on the table already is not waited for.
_ANALYZE = "ANALYZE (SKIP_LOCKED) memories (user_id, namespace, key)"
# Twice as many pages as then, or fewer rows in all than were just written: the table was empty then, its pages not.
# How many rows there are, nobody knows without counting.
_HAS_DOUBLED = """
    SELECT pg_relation_size(oid) > 2 * relpages * current_setting('block_size')::bigint OR reltuples < :count
    FROM pg_class WHERE oid = 'memories'::regclass
"""


class Upserts:
    """The statements that write memories, for one engine. A row is a dict of the columns of `memories`."""

    def __init__(self, engine: Engine):
        self._is_postgres = engine.dialect.name == "postgresql"
        upsert, returning = _statements(self._is_postgres)
        self._one, self._many = DirectStatement(engine, returning), DirectStatement(engine, upsert)

    def one(self, row: dict[str, Any], connection: Connection | None = None) -> Any:
        """Write a memory, in a transaction of its own or in one that is open; returns its created_at."""
        [(created_at,)] = self._one.rows(row) if connection is None else self._one.rows_within(connection, row)
        return created_at

    def many(self, connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
        """Write memories of one user and one moment, no two with one key, in a transaction that is open."""
        if self._is_postgres:
            arrays = {name: [row[name] for row in rows] for name in _ARRAYS}
            connection.exec_driver_sql(_UPSERT_ARRAYS, {**rows[0], **arrays})
        else:
            self._many.execute_many(connection, rows)

    def tell_planner(self, engine: Engine | Connection, count: int) -> None:
        """Renew the statistics that PostgreSQL plans by, if the table has doubled since they were made.

        count: memories of a batch that was just written; after a small one nothing is done.
        It does so by itself, but up to a minute later. Until then it takes a user that it hasn't seen for one with a
        single memory, and reads a whole namespace for one key, or for the newest ten: 2 ms at 20,000 memories,
        instead of 0.15.
        """
        if not self._is_postgres or isinstance(engine, Connection) or count < BATCH_ROWS:
            return
        with autocommit_connection(engine) as connection:
            if connection.scalar(text(_HAS_DOUBLED), {"count": count}):
                connection.exec_driver_sql(_ANALYZE)  # by anyone but the table's owner: a warning, and nothing


def batches(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Rows in lists that are small enough to be sent at once."""
    batch, size = [], 0
    for row in rows:
        batch.append(row)
        size += len(row["value"]) + len(row["search_text"])
        if len(batch) == BATCH_ROWS or size >= BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


@cache  # being the same, they are compiled once: see lib.database._direct
def _statements(is_postgres: bool) -> tuple[Any, Any]:
    upsert = upsert_statement(is_postgres)
    return upsert, upsert.returning(_memories.c.created_at)


def upsert_statement(is_postgres: bool) -> Any:
    """Insert a memory, or update the one with its key: there is no gap between a look and a write."""
    value: Any = bindparam("value", type_=Text)  # JSON text already; as JSON it would be serialized once more
    if is_postgres:
        insert, value = postgresql.insert, cast(value, JSONB)
    else:
        insert = sqlite.insert
    others = [column.name for column in _memories.columns if column.name != "value"]
    new = insert(_memories).values(value=value, **{name: bindparam(name) for name in others})
    return new.on_conflict_do_update(
        index_elements=["user_id", "namespace", "key"],
        set_={name: new.excluded[name] for name in _REPLACED},
    )
