"""Conditions on memories: checked, and as SQL that means the same on SQLite and on PostgreSQL."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, Select, func, or_

from lib.checks import checked_number
from lib.database import ArchivedMemory
from lib.database.tables import NAMESPACE_LENGTH, Memory, as_utc
from lib.errors import InvalidInput, shown
from lib.store._found_by_id import of_user as of_user
from lib.store._json_conditions import Scalar, field_equals, list_has_any, number_at_least, text_contains
from lib.store.values import check_name, check_text
from lib.text_terms import fold

MAX_INTEGER = 2**63 - 1  # that SQLite compares exactly
MAX_COUNT = 2**31 - 1  # a limit or an offset


@dataclass(frozen=True)
class Conditions:
    """What memories must meet, all of it; None stands for no condition. See `MemoryStore.search`."""

    namespace: str | None = None
    filter: Mapping[str, Scalar] | None = None
    topics: Sequence[str] | None = None
    key_prefix: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    min_confidence: float | None = None
    contains: str | None = None  # folded, as from `folded_term`

    def clauses(self, dialect: str) -> list[ColumnElement[bool]]:
        """One SQL condition for each that is given. Errors: InvalidInput, naming the value."""
        clauses: list[ColumnElement[bool]] = []
        if self.namespace is not None:
            clauses.append(Memory.namespace == check_name(self.namespace, "namespace", NAMESPACE_LENGTH))
        if self.filter is not None:
            for field, wanted in _checked_filter(self.filter).items():
                clauses.append(field_equals(dialect, Memory.value, field, wanted))
        if self.topics is not None:
            clauses.append(list_has_any(dialect, Memory.value, "topics", _checked_topics(self.topics)))
        if self.key_prefix is not None:
            prefix = check_text(self.key_prefix, "key_prefix")
            clauses.append(func.substr(Memory.key, 1, len(prefix)) == prefix)
        if self.since is not None:
            clauses.append(Memory.updated_at >= as_utc(self.since))
        if self.until is not None:
            clauses.append(Memory.updated_at < as_utc(self.until))
        if self.min_confidence is not None:
            minimum = _comparable("min_confidence", self.min_confidence)
            clauses.append(number_at_least(dialect, Memory.value, "confidence", minimum))
        if self.contains is not None:
            clauses.append(text_contains(dialect, Memory.search_text, self.contains))
        return clauses


CONDITIONS = tuple(field.name for field in fields(Conditions) if field.name not in ("namespace", "contains"))


def check_conditions(call: str, names: Iterable[str]) -> None:
    """Raise InvalidInput, with the name of the call, if one of the names is no condition that memories can be asked by.

    >>> check_conditions("search", ["topics", "since"])
    """
    if unknown := [name for name in names if name not in CONDITIONS]:
        raise InvalidInput(f"{call} knows no condition {', '.join(unknown)}; it knows {', '.join(CONDITIONS)}.")


def page(query: Select[Any], limit: int | None, offset: int) -> Select[Any]:
    """The query's rows after the first `offset`, and `limit` of them at most (None: all); InvalidInput for others."""
    if limit is not None:
        query = query.limit(checked_number("limit", limit, 0, MAX_COUNT, whole=True))
    return query.offset(checked_number("offset", offset, 0, MAX_COUNT, whole=True))


def not_lapsed(
    now: datetime | BindParameter[datetime], table: type[Memory | ArchivedMemory] = Memory
) -> ColumnElement[bool]:
    """The condition that a memory is still there at `now`, an aware datetime: it has no `expires_at`, or a later one.

    Whoever reads memories adds it: lapsed ones stay in the table until `MemoryStore.expire` deletes them.
    """
    return or_(table.expires_at.is_(None), table.expires_at > now)


def folded_term(term: str) -> str:
    """A search term as it is compared; InvalidInput if it isn't a text, or nothing is left of it.

    >>> folded_term(" Montréal ")
    'montreal'
    """
    folded = fold(check_text(term, "the search term"))
    if not folded:
        raise InvalidInput(f"the search term is empty: {shown(term)}. To get all memories, use search().")
    return folded


def _comparable(name: str, number: float) -> float:
    return checked_number(name, number, -MAX_INTEGER, MAX_INTEGER)


def _checked_filter(filter: Mapping[str, Scalar]) -> Mapping[str, Scalar]:
    if not isinstance(filter, Mapping):
        raise InvalidInput(f'filter must be a dict such as {{"type": "episodic"}}, not {shown(filter)}.')
    for field, wanted in filter.items():
        check_text(field, "a field name in filter")
        if isinstance(wanted, str):
            check_text(wanted, f"filter[{field!r}]")
        elif isinstance(wanted, int | float) and not isinstance(wanted, bool):
            _comparable(f"filter[{field!r}]", wanted)
        elif wanted is not None and not isinstance(wanted, bool):
            raise InvalidInput(
                f"filter[{field!r}] must be a text, a number, True, False or None, not {shown(wanted)}. "
                "For lists of topics use topics=[…], for a minimum min_confidence=…."
            )
    return filter


def _checked_topics(topics: Sequence[str]) -> list[str]:
    if isinstance(topics, str) or not isinstance(topics, Sequence) or not topics:
        raise InvalidInput(f'topics must be a list with at least one text, such as ["S3"], not {shown(topics)}.')
    return [check_text(topic, "a topic") for topic in topics]
