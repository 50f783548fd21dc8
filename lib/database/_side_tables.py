"""The tables beside the memories: earlier values, the archive, the search index, cached content and its leases."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Identity, Index, LargeBinary, String, Text
from sqlalchemy.dialects.postgresql import TSVECTOR
from sqlalchemy.orm import Mapped, mapped_column

from lib.database.tables import (
    KEY_LENGTH,
    NAMESPACE_LENGTH,
    USER_ID_LENGTH,
    Base,
    RowNumber,
    UUIDText,
    _user_id_column,
    _where,
    new_id,
    utcnow,
)

CONTENT_TYPE_LENGTH = 50  # characters


class PastVersion(Base):
    """A value that a memory had before; written by a trigger: see lib.database._triggers."""

    __tablename__ = "memory_versions"

    id: Mapped[int] = mapped_column(RowNumber, Identity(), primary_key=True)
    memory_id: Mapped[str] = mapped_column(UUIDText, ForeignKey("memories.id", ondelete="CASCADE"))
    user_id: Mapped[str] = mapped_column(String(USER_ID_LENGTH))
    value: Mapped[dict[str, Any]]
    written_at: Mapped[datetime]
    replaced_at: Mapped[datetime]

    __table_args__ = (Index("ix_memory_version", "memory_id", "id"),)


class ArchivedMemory(Base):
    """A memory that was moved out of the way: no search finds it, and it can be brought back: `MemoryStore.archive`."""

    __tablename__ = "archived_memories"

    id: Mapped[str] = mapped_column(UUIDText, primary_key=True)  # the memory's own
    user_id: Mapped[str] = _user_id_column()
    namespace: Mapped[str] = mapped_column(String(NAMESPACE_LENGTH))
    key: Mapped[str] = mapped_column(String(KEY_LENGTH))
    value: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]  # the archive keeps nothing for longer than was promised
    archived_at: Mapped[datetime] = mapped_column()
    reason: Mapped[str] = mapped_column(Text)

    # Not unique by address: what is remembered anew may be archived again.
    __table_args__ = (Index("ix_archived_memory_newest_of_user", "user_id", archived_at.desc(), id.desc()),)


class IndexedMemory(Base):
    """What the search for relevance knows of a memory: its terms, its vector, its place. Made by lib.retrieval._index.

    Derived from the memory and thrown away with it: a trigger deletes the row when the memory's value changes. On
    SQLite the tokens stand in a full-text table instead, `memory_terms`.
    """

    __tablename__ = "memory_index"

    id: Mapped[int] = mapped_column(RowNumber, Identity(), primary_key=True)  # grows: a new row, a new number
    memory_id: Mapped[str] = mapped_column(UUIDText, ForeignKey("memories.id", ondelete="CASCADE"), unique=True)
    user_id: Mapped[str] = mapped_column(String(USER_ID_LENGTH))
    model: Mapped[str] = mapped_column(Text)  # the embedder's name
    vector: Mapped[bytes] = mapped_column(LargeBinary)  # float16, little-endian
    terms: Mapped[str] = mapped_column(Text)  # JSON: stem -> how often; those of its neighbours count less
    tokens: Mapped[str | None] = mapped_column(Text().with_variant(TSVECTOR, "postgresql"))
    length: Mapped[float]  # sum of the terms' counts
    happened_at: Mapped[datetime]
    session: Mapped[str | None] = mapped_column(Text)
    subject: Mapped[str | None] = mapped_column(Text)  # folded: whom or what it is about
    context_hash: Mapped[str] = mapped_column(String(32))  # of the texts that terms and vector were made from

    __table_args__ = (
        Index("ix_memory_index_of_user", "user_id", "model", "length", "id"),
        Index("ix_memory_index_session", "user_id", "session", "happened_at", **_where("session IS NOT NULL")),
        Index("ix_memory_index_subject", "user_id", "subject", **_where("subject IS NOT NULL")),
        {"sqlite_autoincrement": True},  # a number that was given is never given again
    )


class CachedContent(Base):
    """One cached output of a model, found by the hash of everything that it was made from. See lib.cache.content_cache.

    The columns from `expires_at` on came later, so they may be empty.
    """

    __tablename__ = "content_cache"

    id: Mapped[str] = mapped_column(UUIDText, primary_key=True, default=new_id)
    content_hash: Mapped[str] = mapped_column(String(64), unique=True)
    content_type: Mapped[str] = mapped_column(String(CONTENT_TYPE_LENGTH))
    content: Mapped[dict[str, Any]]
    # NULL for content that is shared; else the one user that it was derived from and may be served to.
    user_id: Mapped[str | None] = _user_id_column(index=True)
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    access_count: Mapped[int] = mapped_column(default=0)
    last_accessed: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]  # from then on it is not served; None: it stays
    size_bytes: Mapped[int | None]  # of the content as JSON
    model: Mapped[str | None] = mapped_column(Text)
    tokens_in: Mapped[int | None]
    tokens_out: Mapped[int | None]
    generation_ms: Mapped[float | None]  # how long the model took
    input_summary: Mapped[str | None] = mapped_column(Text)  # for whoever has to find out where it came from

    # Only those that expire, so that looking for what has expired reads nothing else.
    __table_args__ = (Index("ix_cached_content_expires", "expires_at", **_where("expires_at IS NOT NULL")),)


class CacheLease(Base):
    """Who is generating a content that isn't cached yet, and until when nobody else does. See lib.cache._rows."""

    __tablename__ = "cache_leases"

    content_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    content_type: Mapped[str] = mapped_column(String(CONTENT_TYPE_LENGTH))
    user_id: Mapped[str | None] = _user_id_column(index=True)
    owner: Mapped[str] = mapped_column(UUIDText)  # new with every claim, so that a lost one is known as lost
    claimed_until: Mapped[datetime]
