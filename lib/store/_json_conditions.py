"""Conditions on the fields of a memory's JSON value, as SQL that means the same on SQLite and on PostgreSQL."""

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ARRAY, ColumnElement, SQLColumnExpression, Text, and_, case, cast, func, literal, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import Numeric

Scalar = str | int | float | bool | None
Column = SQLColumnExpression[Any]


def field_equals(dialect: str, column: Column, field: str, wanted: Scalar) -> ColumnElement[bool]:
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


def list_has_any(dialect: str, column: Column, field: str, wanted: Sequence[str]) -> ColumnElement[bool]:
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


def number_at_least(dialect: str, column: Column, field: str, minimum: float) -> ColumnElement[bool]:
    """The top-level field is a number and at least `minimum`; a field that isn't there doesn't pass."""
    if dialect == "postgresql":
        value = _pg_field(column, field)
        # CASE, because a plain AND may be evaluated from either side, and casting a text to a number fails.
        number = case((func.jsonb_typeof(value) == "number", cast(cast(value, Text), Numeric)))
        return number >= minimum
    path = f"$.{field}"
    return and_(func.json_type(column, path).in_(("integer", "real")), func.json_extract(column, path) >= minimum)


def text_contains(dialect: str, column: Column, term: str) -> ColumnElement[bool]:
    """The text holds the term, every character of it taken literally (LIKE would give % and _ a meaning)."""
    position = func.strpos(column, term) if dialect == "postgresql" else func.instr(column, term)
    return position > 0


def _pg_field(column: Column, field: str) -> ColumnElement[Any]:
    return func.jsonb_extract_path(column, field, type_=JSONB)
