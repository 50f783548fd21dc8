"""PostgreSQL's advisory locks: a number for each thing that only one process may do at a time.

The numbers are ours by nothing but convention, so they stand here together: two things with one number would wait for
each other.
"""

from enum import IntEnum

from sqlalchemy import Connection, text


class Lock(IntEnum):
    """What is locked."""

    CREATE_TABLES = 7_155_201
    CREATE_JOB_TABLES = 7_155_204
    ROW_LEVEL_SECURITY = 7_155_205


def wait_for(connection: Connection, lock: Lock) -> None:
    """Take the lock as soon as nobody has it; it is free again when the transaction ends. Nothing on SQLite."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": int(lock)})
