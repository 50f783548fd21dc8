"""Deleting more than one memory of a user: a namespace, what has lapsed, or all there is."""

from datetime import datetime

from sqlalchemy import Connection, Engine, delete

from lib.database import ArchivedMemory, CachedContent, CacheLease, delete_jobs
from lib.database.tables import NAMESPACE_LENGTH, USER_ID_LENGTH, ConversationSession, Memory, User
from lib.database.transactions import hold_user, write_transaction
from lib.store._history import delete_versions
from lib.store.items import Forgotten
from lib.store.values import check_name

# Each with the field of `Forgotten` that counts its rows.
_TABLES = {
    "memories": Memory.__table__,
    "sessions": ConversationSession.__table__,
    "cached_contents": CachedContent.__table__,
    "archived": ArchivedMemory.__table__,
}


def delete_namespace(engine: Engine | Connection, user_id: str, namespace: str) -> int:
    """Delete all memories of one namespace; returns how many there were."""
    check_name(user_id, "user_id", USER_ID_LENGTH)
    check_name(namespace, "namespace", NAMESPACE_LENGTH)
    with write_transaction(engine) as connection:
        if not hold_user(connection, user_id):
            return 0
        return connection.execute(delete(Memory).filter_by(user_id=user_id, namespace=namespace)).rowcount


def delete_lapsed(engine: Engine | Connection, user_id: str, now: datetime) -> int:
    """Delete the user's memories that have lapsed by `now`, also those in the archive; returns how many."""
    check_name(user_id, "user_id", USER_ID_LENGTH)
    with write_transaction(engine) as connection:
        if not hold_user(connection, user_id):
            return 0
        return sum(
            connection.execute(delete(table).where(table.user_id == user_id, table.expires_at <= now)).rowcount
            for table in (Memory, ArchivedMemory)
        )


def delete_user(engine: Engine | Connection, user_id: str) -> Forgotten:
    """Delete the user and every row about them, in every table; returns how many there were in each."""
    check_name(user_id, "user_id", USER_ID_LENGTH)
    with write_transaction(engine) as connection:
        if not hold_user(connection, user_id, to_delete=True):
            return Forgotten(0, 0, 0)
        versions = delete_versions(connection, user_id)
        counts = {
            name: connection.execute(delete(table).where(table.c.user_id == user_id)).rowcount
            for name, table in _TABLES.items()
        }
        # Whoever is generating content of this user finds the lease gone, and stores nothing.
        connection.execute(delete(CacheLease).where(CacheLease.user_id == user_id))
        jobs = delete_jobs(connection, user_id)
        connection.execute(delete(User).where(User.id == user_id))
    return Forgotten(**counts, versions=versions, jobs=jobs)
