"""Writing a memory: insert, or update the one with the same key, in one statement. (A batch: `_batches`.)"""

from typing import Any

from sqlalchemy import Text, bindparam, cast
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import JSONB

from lib.database.tables import Memory

_memories = Memory.__table__
_REPLACED = ("value", "search_text", "updated_at", "expires_at")  # the rest of an existing memory stays


def upsert_statement(is_postgres: bool) -> Any:
    """Insert a memory, or update the one with its key: there is no gap between a look and a write."""
    insert: Any = postgresql.insert if is_postgres else sqlite.insert
    value: Any = bindparam("value", type_=Text)  # JSON text already; as JSON it would be serialized once more
    if is_postgres:
        value = cast(value, JSONB)
    others = [column.name for column in _memories.columns if column.name != "value"]
    new = insert(_memories).values(value=value, **{name: bindparam(name) for name in others})
    return new.on_conflict_do_update(
        index_elements=["user_id", "namespace", "key"],
        set_={name: new.excluded[name] for name in _REPLACED},
    )


# By the dialect's name. Made once, so that SQLAlchemy compiles each once, too.
UPSERT = {
    name: upsert_statement(name == "postgresql").returning(_memories.c.created_at) for name in ("sqlite", "postgresql")
}
