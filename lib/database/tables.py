"""The tables: users, memories with their versions and archive, conversations; alike on both databases.

Those of the search's index and of the cache are in `_side_tables`, what the database does by itself in `_triggers`.
"""

import os
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from lib.errors import InvalidInput, shown

USER_ID_LENGTH = 50  # characters
NAMESPACE_LENGTH = 100
KEY_LENGTH = 200
SESSION_STATES = ("pending", "extracting", "extracted", "failed")  # of a conversation that is over


def utcnow() -> datetime:
    """The time now, as an aware datetime in UTC.

    `datetime.utcnow()` is deprecated since Python 3.12 and gives a datetime that doesn't know its zone.
    """
    return datetime.now(UTC)


_id_lock = threading.Lock()
_last_id_time = 0


def new_id() -> str:
    """A UUID of version 7 (RFC 9562): later ids sort after earlier ones, also within one microsecond.

    Ids that grow keep new rows at the end of the primary key's index, and break ties between memories
    of one instant in the order of their writing. Python has `uuid.uuid7` only from 3.14 on.

    >>> ids = [new_id() for _ in range(1000)]
    >>> ids == sorted(set(ids))
    True
    """
    global _last_id_time
    with _id_lock:
        # 60 bits: milliseconds in the upper 48, 1/4096 of a millisecond in the lower 12.
        now = time.time_ns() * 4096 // 1_000_000
        _last_id_time = now = max(now, _last_id_time + 1)
    random_bits = int.from_bytes(os.urandom(8)) & ((1 << 62) - 1)
    digits = f"{(now >> 12) << 80 | 7 << 76 | (now & 0xFFF) << 64 | 2 << 62 | random_bits:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


class UTCDateTime(TypeDecorator[datetime]):
    """Aware datetimes in UTC, in and out, on both databases.

    SQLite has no time zones: a plain `DateTime(timezone=True)` comes back naive from it, and comparing
    that with an aware datetime raises TypeError. Here a naive datetime is refused on its way in.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> datetime | None:
        return None if value is None else as_utc(value)

    def process_result_value(self, value: datetime | None, dialect: Any) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


# A UUID as text in Python; 16 bytes on PostgreSQL, 36 characters on SQLite, which has no such type.
UUIDText = String(36).with_variant(postgresql.UUID(as_uuid=False), "postgresql")


def as_utc(value: datetime) -> datetime:
    """The same instant in UTC; InvalidInput for anything but an aware datetime.

    >>> from datetime import timedelta, timezone
    >>> as_utc(datetime(2026, 3, 1, 9, tzinfo=timezone(timedelta(hours=2)))).hour
    7
    """
    if not isinstance(value, datetime):
        raise InvalidInput(f"a time must be a datetime, not {type(value).__name__}: {shown(value)}.")
    if value.utcoffset() is None:
        raise InvalidInput(
            f"{value.isoformat()} has no time zone, so it could be any of 24 hours. "
            "Use datetime.now(UTC), or value.replace(tzinfo=UTC) if it is in UTC already."
        )
    return value.astimezone(UTC)


JSONDocument = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
# SQLite numbers rows by itself only if the type is INTEGER.
RowNumber = BigInteger().with_variant(Integer, "sqlite")


class Base(DeclarativeBase):
    """Columns of type `dict` hold JSON: JSONB on PostgreSQL, text on SQLite."""

    if TYPE_CHECKING:
        __table__: ClassVar[Table]  # and not any FromClause

    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it from the class
        dict[str, Any]: JSONDocument,
        datetime: UTCDateTime(),
    }


def _user_id_column(**options: Any) -> Mapped[Any]:
    return mapped_column(String(USER_ID_LENGTH), ForeignKey("users.id", ondelete="CASCADE"), **options)


def _where(condition: str) -> dict[str, Any]:
    """The condition of a partial index."""
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


class User(Base):
    """A person that the agent talks with. Deleting one deletes all that belongs to them."""

    __tablename__ = "users"

    id: Mapped[str] = mapped_column(String(USER_ID_LENGTH), primary_key=True)
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    preferences: Mapped[dict[str, Any]] = mapped_column(default=dict)


class Memory(Base):
    """One memory: user, namespace, key, JSON value, and when it came and last changed."""

    __tablename__ = "memories"

    id: Mapped[str] = mapped_column(UUIDText, primary_key=True, default=new_id)
    user_id: Mapped[str] = _user_id_column()
    namespace: Mapped[str] = mapped_column(String(NAMESPACE_LENGTH))
    key: Mapped[str] = mapped_column(String(KEY_LENGTH))
    value: Mapped[dict[str, Any]]
    search_text: Mapped[str] = mapped_column(Text, default="")  # the value's texts, folded: see lib.store.values
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    updated_at: Mapped[datetime] = mapped_column(default=utcnow, onupdate=utcnow)
    expires_at: Mapped[datetime | None]  # from then on it is not found; None: it stays

    __table_args__ = (
        # The key before the namespace: were it last, PostgreSQL would read a whole namespace through this index
        # and sort it, as long as it has no statistics of the table, rather than take the ordered one below.
        UniqueConstraint("user_id", "key", "namespace", name="uq_memory_user_key_namespace"),
        # These two also order: the newest ten are the first ten entries, whatever the size of the table.
        # The id breaks ties inside the index; without it, memories of one instant would be sorted by hand.
        Index("ix_memory_newest_in_namespace", "user_id", "namespace", updated_at.desc(), id.desc()),
        Index("ix_memory_newest_of_user", "user_id", updated_at.desc(), id.desc()),
    )


class ConversationSession(Base):
    """One conversation from its start to its end. (`Session` is SQLAlchemy's name.)

    The columns from `transcript` on are those of `SessionLog`; `state` is None while a conversation goes on.
    """

    __tablename__ = "sessions"

    id: Mapped[str] = mapped_column(UUIDText, primary_key=True, default=new_id)
    user_id: Mapped[str] = _user_id_column(index=True)
    started_at: Mapped[datetime] = mapped_column(default=utcnow)
    ended_at: Mapped[datetime | None]
    summary: Mapped[str | None] = mapped_column(Text)
    # The column is named metadata, as in the schema; the attribute can't be: declarative classes reserve it.
    details: Mapped[dict[str, Any]] = mapped_column("metadata", default=dict)
    transcript: Mapped[list[dict[str, Any]] | None] = mapped_column(JSONDocument)
    state: Mapped[str | None] = mapped_column(Text, CheckConstraint(f"state IN {SESSION_STATES}"))
    attempts: Mapped[int] = mapped_column(default=0, server_default="0")
    error: Mapped[str | None] = mapped_column(Text)
    claimed_until: Mapped[datetime | None]

    __table_args__ = (
        # Only of those that may be claimed, so that it stays small however many were extracted.
        Index("ix_session_to_extract", "ended_at", "id", **_where("state IN ('pending', 'extracting')")),
    )
