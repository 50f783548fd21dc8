"""Conditions on memories: checked, and as SQL that means the same on SQLite and on PostgreSQL."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ARRAY, BindParameter, ColumnElement, String, Text, and_, case, cast, func, literal, or_, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import Numeric

from lib.database.tables import KEY_LENGTH, NAMESPACE_LENGTH, USER_ID_LENGTH, ArchivedMemory, Memory, as_utc
from lib.errors import InvalidInput, shown
from lib.store.values import check_text
from lib.text_terms import fold

MAX_INTEGER = 2**63 - 1  # that SQLite compares exactly
MAX_COUNT = 2**31 - 1  # a limit or an offset

Scalar = str | int | float | bool | None


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
        found: list[ColumnElement[bool]] = []
        if self.namespace is not None:
            found.append(Memory.namespace == check_name(self.namespace, "namespace", NAMESPACE_LENGTH))
        if self.filter is not None:
            for field, wanted in _checked_filter(self.filter).items():
                found.append(_field_equals(dialect, Memory.value, field, wanted))
        if self.topics is not None:
            found.append(_list_has_any(dialect, Memory.value, "topics", _checked_topics(self.topics)))
        if self.key_prefix is not None:
            prefix = _text(self.key_prefix, "key_prefix")
            found.append(func.substr(Memory.key, 1, len(prefix)) == prefix)
        if self.since is not None:
            found.append(Memory.updated_at >= as_utc(self.since))
        if self.until is not None:
            found.append(Memory.updated_at < as_utc(self.until))
        if self.min_confidence is not None:
            minimum = _number(self.min_confidence, "min_confidence")
            found.append(_number_at_least(dialect, Memory.value, "confidence", minimum))
        if self.contains is not None:
            found.append(_text_contains(dialect, Memory.search_text, self.contains))
        return found


def not_lapsed(
    now: datetime | BindParameter[datetime], table: type[Memory | ArchivedMemory] = Memory
) -> ColumnElement[bool]:
    """The condition that a memory is still there at `now`, an aware datetime: it has no `expires_at`, or a later one.

    Whoever reads memories adds it: lapsed ones stay in the table until `MemoryStore.expire` deletes them.
    """
    return or_(table.expires_at.is_(None), table.expires_at > now)


class _Unsought(FunctionElement):
    """A column as it is, which SQLite doesn't look rows up by."""

    inherit_cache = True
    type = String()


@compiles(_Unsought)
def _as_it_is(element: _Unsought, compiler: Any, **options: Any) -> str:
    return compiler.process(element.clauses, **options)


@compiles(_Unsought, "sqlite")
def _with_a_sign(element: _Unsought, compiler: Any, **options: Any) -> str:
    return f"+{compiler.process(element.clauses, **options)}"


def of_user(column: ColumnElement[str], user_id: Any) -> ColumnElement[bool]:
    """The condition that rows which are found by their ids are this user's.

    Every statement names its user, so that the tables may be parted by users. SQLite, which knows no numbers of rows,
    would else read all of the user's rows, and look among them for the ids.
    """
    return _Unsought(column) == user_id


def folded_term(term: str) -> str:
    """A search term as it is compared; InvalidInput if it isn't a text, or nothing is left of it.

    >>> folded_term(" Montréal ")
    'montreal'
    """
    folded = fold(_text(term, "the search term"))
    if not folded:
        raise InvalidInput(f"the search term is empty: {shown(term)}. To get all memories, use search().")
    return folded


def check_name(text: str, name: str, longest: int) -> str:
    """A user_id, namespace or key that can be stored; else InvalidInput.

    >>> check_name("ada", "user_id", 50)
    'ada'
    """
    if type(text) is str and text.isascii() and text.isprintable() and 0 < len(text.strip()) <= len(text) <= longest:
        return text  # nearly every name, in a third of the time
    _text(text, name)
    if not text.strip():
        raise InvalidInput(f"{name} must not be empty: {shown(text)}.")
    if len(text) > longest:
        raise InvalidInput(
            f"{name} has {len(text):,} characters, and {longest} is the limit: {shown(text)}. Shorten it."
        )
    return text


def check_address(user_id: str, namespace: str, key: str) -> dict[str, str]:
    """The three names of a memory, each of which can be stored; else InvalidInput.

    >>> check_address("ada", "facts", "home")
    {'user_id': 'ada', 'namespace': 'facts', 'key': 'home'}
    """
    return {
        "user_id": check_name(user_id, "user_id", USER_ID_LENGTH),
        "namespace": check_name(namespace, "namespace", NAMESPACE_LENGTH),
        "key": check_name(key, "key", KEY_LENGTH),
    }


def check_count(number: int, name: str) -> int:
    """A limit or an offset that both databases take; else InvalidInput."""
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= MAX_COUNT:
        raise InvalidInput(f"{name} must be a whole number from 0 to {MAX_COUNT:,}, not {shown(number)}.")
    return number


def _text(text: str, name: str) -> str:
    if not isinstance(text, str):
        raise InvalidInput(f"{name} must be a text, not {type(text).__name__}: {shown(text)}.")
    return check_text(text, name)


def _number(number: float, name: str) -> float:
    is_number = isinstance(number, int | float) and not isinstance(number, bool)
    if not is_number or not abs(number) <= MAX_INTEGER:  # NaN is not <= anything
        raise InvalidInput(f"{name} must be a number of a usual size, not {shown(number)}.")
    return number


def _checked_filter(filter: Mapping[str, Scalar]) -> Mapping[str, Scalar]:
    if not isinstance(filter, Mapping):
        raise InvalidInput(f'filter must be a dict such as {{"type": "episodic"}}, not {shown(filter)}.')
    for field, wanted in filter.items():
        _text(field, "a field name in filter")
        if isinstance(wanted, str):
            check_text(wanted, f"filter[{field!r}]")
        elif isinstance(wanted, int | float) and not isinstance(wanted, bool):
            _number(wanted, f"filter[{field!r}]")
        elif wanted is not None and not isinstance(wanted, bool):
            raise InvalidInput(
                f"filter[{field!r}] must be a text, a number, True, False or None, not {shown(wanted)}. "
                "For lists of topics use topics=[…], for a minimum min_confidence=…."
            )
    return filter


def _checked_topics(topics: Sequence[str]) -> list[str]:
    if isinstance(topics, str) or not isinstance(topics, Sequence) or not topics:
        raise InvalidInput(f'topics must be a list with at least one text, such as ["S3"], not {shown(topics)}.')
    return [_text(topic, "a topic") for topic in topics]


def _field_equals(dialect: str, column: ColumnElement, field: str, wanted: Scalar) -> ColumnElement[bool]:
    """The top-level field is there and equals `wanted`: 1 equals 1.0, but neither True nor "1"."""
    if dialect == "postgresql":
        return _pg_field(column, field) == cast(literal(json.dumps(wanted), Text), JSONB)
    # json_each and not json_extract: a path can't name a field that has a quote in it.
    each = func.json_each(column).table_valued("key", "type", "atom")
    if wanted is None:
        same = each.c.type == "null"
    elif isinstance(wanted, bool):
        same = each.c.type == str(wanted).lower()
    else:
        types = ("text",) if isinstance(wanted, str) else ("integer", "real")
        same = and_(each.c.type.in_(types), each.c.atom == wanted)
    return select(1).where(each.c.key == field, same).exists()


def _list_has_any(dialect: str, column: ColumnElement, field: str, wanted: Sequence[str]) -> ColumnElement[bool]:
    """The top-level field is a list that holds at least one of the texts."""
    if dialect == "postgresql":
        values = _pg_field(column, field)
        return and_(
            func.jsonb_typeof(values) == "array",
            func.jsonb_exists_any(values, cast(list(wanted), ARRAY(Text))),
        )
    path = f"$.{field}"
    each = func.json_each(column, path).table_valued("type", "atom")
    found = select(1).where(each.c.type == "text", each.c.atom.in_(list(wanted))).exists()
    return and_(func.json_type(column, path) == "array", found)


def _number_at_least(dialect: str, column: ColumnElement, field: str, minimum: float) -> ColumnElement[bool]:
    """The top-level field is a number and at least `minimum`; a field that isn't there doesn't pass."""
    if dialect == "postgresql":
        value = _pg_field(column, field)
        # CASE, because a plain AND may be evaluated from either side, and casting a text to a number fails.
        number = case((func.jsonb_typeof(value) == "number", cast(cast(value, Text), Numeric)))
        return number >= minimum
    path = f"$.{field}"
    return and_(func.json_type(column, path).in_(("integer", "real")), func.json_extract(column, path) >= minimum)


def _text_contains(dialect: str, column: ColumnElement, term: str) -> ColumnElement[bool]:
    """The text holds the term, every character of it taken literally (LIKE would give % and _ a meaning)."""
    position = func.strpos(column, term) if dialect == "postgresql" else func.instr(column, term)
    return position > 0


def _pg_field(column: ColumnElement, field: str) -> ColumnElement[Any]:
    return func.jsonb_extract_path(column, field, type_=JSONB)
