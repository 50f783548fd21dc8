"""The values that a memory had before, as `lib.database._triggers` has the database keep them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, delete, literal_column, null, select, union_all

from lib.database import PastVersion
from lib.database.tables import Memory
from lib.records import RecordList
from lib.store.filters import not_lapsed
from lib.store.items import short, when

_memories, _past = Memory.__table__, PastVersion.__table__
_the_memory = [_memories.c[name] == bindparam(name) for name in ("user_id", "namespace", "key")]
_the_memory.append(not_lapsed(bindparam("now")))
_its_id = select(_memories.c.id).where(*_the_memory).scalar_subquery()
_earlier = select(
    literal_column("0").label("is_current"),
    _past.c.id.label("number"),
    _past.c.value,
    _past.c.written_at,
    _past.c.replaced_at,
).where(_past.c.memory_id == _its_id, _past.c.user_id == bindparam("user_id"))
_current = select(literal_column("1"), literal_column("0"), _memories.c.value, _memories.c.created_at, null())
# One statement, so that no put comes between the past and the present.
_history = union_all(_earlier, _current.where(*_the_memory)).order_by("is_current", "number")

# By way of the memories: the versions have no index by user, which every update would pay for.
_of_user = select(_memories.c.id).where(_memories.c.user_id == bindparam("user_id"))
_delete = delete(_past).where(_past.c.user_id == bindparam("user_id"), _past.c.memory_id.in_(_of_user))


@dataclass(frozen=True, slots=True)
class MemoryVersion:
    """A value of one memory, and how long it was the current one."""

    value: dict[str, Any] = field(hash=False)  # the JSON object
    written_at: datetime  # aware, UTC
    replaced_at: datetime | None  # aware, UTC; None for the current one

    def _repr_html_(self) -> str:
        return VersionList([self])._repr_html_()


class VersionList(RecordList[MemoryVersion]):
    """The versions of one memory, oldest first. In a notebook it shows as a table."""

    columns = ("value", "written_at (UTC)", "replaced_at (UTC)")
    nothing = "no versions"

    @staticmethod
    def row(record: MemoryVersion) -> tuple[str, ...]:
        return short(record.value), when(record.written_at), when(record.replaced_at)

    @classmethod
    def line(cls, record: MemoryVersion) -> str:
        return f"{when(record.written_at)} - {when(record.replaced_at):16}  {short(record.value)}"


def versions_of(connection: Connection, memory: Mapping[str, str], now: datetime) -> VersionList:
    """All versions of a memory, oldest first, the current one last; none of one that has lapsed by `now`.

    memory: its user_id, namespace and key.
    """
    versions = VersionList(MemoryVersion(*row[2:]) for row in connection.execute(_history, {**memory, "now": now}))
    if len(versions) > 1 and (began := versions[-2].replaced_at):  # not when the memory came
        versions[-1] = replace(versions[-1], written_at=began)
    return versions


def delete_versions(connection: Connection, user_id: str) -> int:
    """Delete the earlier values of all memories of a user; returns how many there were."""
    return connection.execute(_delete, {"user_id": user_id}).rowcount
