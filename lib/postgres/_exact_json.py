"""Columns of JSON as the store writes them, exact to the last digit, for plain statements of SQLAlchemy."""

import json
from collections.abc import Callable
from typing import Any

from sqlalchemy import JSON, Dialect, MetaData, Table
from sqlalchemy.types import UserDefinedType

from lib.database.tables import Base

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class ExactJSON(UserDefinedType[Any]):
    """JSON without escapes and spaces, which on SQLite is the store's text; `JSON` would write another one."""

    cache_ok = True
    render_bind_cast = True

    def get_col_spec(self, **_: Any) -> str:
        return "JSONB"

    def bind_processor(self, dialect: Dialect) -> Callable[[Any], str | None]:
        return lambda value: None if value is None else _encode(value)

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any] | None:
        return _parsed if dialect.name == "sqlite" else None  # psycopg has parsed it


def exact_tables(*names: str) -> dict[str, Table]:
    """The workbook's tables of these names, with `ExactJSON` in the place of JSON."""
    metadata = MetaData()
    tables: dict[str, Table] = {name: Base.metadata.tables[name].to_metadata(metadata) for name in names}
    for table in tables.values():
        for column in table.c:
            if isinstance(column.type, JSON):
                column.type = ExactJSON()
    return tables


def documents_of(table: Table) -> list[str]:
    """The names of the columns that hold JSON."""
    return [column.name for column in table.c if isinstance(column.type, ExactJSON)]


def _parsed(text: str | None) -> Any:
    try:
        return None if text is None else json.loads(text)
    except ValueError:
        return text  # no JSON: `copy_memories` names the row
