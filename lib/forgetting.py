"""Deleting what a user's memory held: what has lapsed, or all of it."""

from datetime import datetime

from sqlalchemy import Connection, delete

from lib.history import delete_versions
from lib.items import Forgotten
from lib.models import ArchivedMemory, CachedContent, ConversationSession, Memory, User

# Each with the field of `Forgotten` that counts its rows.
_TABLES = {
    "memories": Memory,
    "sessions": ConversationSession,
    "cached_contents": CachedContent,
    "archived": ArchivedMemory,
}


def delete_lapsed(connection: Connection, user_id: str, now: datetime) -> int:
    """Delete the user's memories that have lapsed by `now`, also those in the archive; returns how many."""
    return sum(
        connection.execute(delete(table).where(table.user_id == user_id, table.expires_at <= now)).rowcount
        for table in (Memory, ArchivedMemory)
    )


def delete_user(connection: Connection, user_id: str) -> Forgotten:
    """Delete the user and every row about them, in every table. The user's row is held, to be deleted."""
    versions = delete_versions(connection, user_id)
    counts = {
        name: connection.execute(delete(table).where(table.user_id == user_id)).rowcount
        for name, table in _TABLES.items()
    }
    connection.execute(delete(User).where(User.id == user_id))
    return Forgotten(**counts, versions=versions)
