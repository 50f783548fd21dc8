"""Many rows of any table at once, read, looked up and written alike on both databases; JSON goes through exactly."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import (
    ARRAY,
    JSON,
    ColumnElement,
    Connection,
    FromClause,
    Table,
    Text,
    any_,
    bindparam,
    cast,
    delete,
    func,
    literal,
    select,
    true,
    tuple_,
)
from sqlalchemy.dialects import sqlite

from lib.errors import InvalidInput, shown

PAGE_ROWS = 1000
PAGE_CHARACTERS = 10_000_000  # of JSON; one more value, of up to 10 MB, may come on top

Row = dict[str, Any]  # column -> value; JSON as Python has it, times in UTC

_dumps = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


_loads = json.JSONDecoder(parse_constant=_refuse).decode


def pages(
    connection: Connection, table: Table, order: Sequence[str], *where: ColumnElement[bool]
) -> Iterator[list[Row]]:
    """The rows of a table in lists of bounded size, in the order of the columns, which must be unique together.

    Each list begins after the last row of the one before, so that it is found by an index however far one has come.
    """
    after: list[ColumnElement[bool]] = []
    while True:
        rows, is_last = page(connection, table, order, *where, *after)
        if rows:
            yield rows
        if is_last:
            return
        after = [beyond(table, order, rows[-1])]


def beyond(table: Table, order: Sequence[str], row: Row) -> ColumnElement[bool]:
    """The condition on the rows that come after this one."""
    place = [literal(row[name], table.c[name].type) for name in order]
    return tuple_(*[table.c[name] for name in order]) > tuple_(*place)


def page(
    connection: Connection, table: Table, order: Sequence[str], *where: ColumnElement[bool]
) -> tuple[list[Row], bool]:
    """(the first rows, whether there are no more). At least one row comes, however large it is."""
    columns = _read_columns(table)
    sizes = [func.coalesce(func.length(column), 0) for column in columns if column.name in _json_columns(table)]
    some = select(*columns, sum(sizes[1:], sizes[0]).label("size_") if sizes else literal(0).label("size_"))
    some = some.where(*where).order_by(*[table.c[name] for name in order]).limit(PAGE_ROWS).subquery()
    # Measured by the database: a thousand large values must not even be sent.
    so_far = func.sum(some.c.size_).over(order_by=[some.c[name] for name in order], rows=(None, 0))
    measured = select(some, so_far.label("so_far_")).subquery()
    query = select(measured).where(measured.c.so_far_ - measured.c.size_ < PAGE_CHARACTERS)
    found = connection.execute(query.order_by(*[measured.c[name] for name in order])).all()
    rows = _parsed(table, found)
    return rows, len(found) < PAGE_ROWS and (not found or found[-1].so_far_ < PAGE_CHARACTERS)


def find(
    connection: Connection, table: Table, names: Sequence[str], wanted: Sequence[Row], *, lock: bool = False
) -> dict[tuple[Any, ...], Row]:
    """The rows that are alike with the wanted ones in the named columns, which are unique together, by those columns.

    lock: hold them until the transaction ends.
    """
    if not wanted:
        return {}
    columns, values = _read_columns(table), [[row[name] for name in names] for row in wanted]
    if connection.dialect.name == "postgresql":
        arrays = [cast(list(column), ARRAY(Text)) for column in zip(*values, strict=True)]
        given: FromClause = func.unnest(*arrays).table_valued(*names).render_derived("given")
        same = [table.c[name] == cast(given.c[name], table.c[name].type) for name in names]
        # One look into the index for each: as a list of alternatives, they would take longer to plan than to do.
        one = select(*columns).where(*same).limit(1)
        each = (one.with_for_update() if lock else one).lateral()
        query = select(each).select_from(given.join(each, true()))
    else:
        given = func.json_each(literal(_dumps(values), Text)).table_valued("value", name="given")
        same = [table.c[name] == func.json_extract(given.c.value, f"$[{at}]") for at, name in enumerate(names)]
        query = select(*columns).where(*same)
    rows = _parsed(table, connection.execute(query).all())
    return {tuple(row[name] for name in names): row for row in rows}


def among(connection: Connection, column: ColumnElement, values: Sequence[Any]) -> ColumnElement[bool]:
    """The condition that a column holds one of the values."""
    if connection.dialect.name == "postgresql":  # an array: hundreds of parameters take the driver long
        return column == any_(cast(list(values), ARRAY(column.type)))
    return column.in_(list(values))


def insert_rows(connection: Connection, table: Table, rows: Sequence[Row]) -> int:
    """Insert those rows that nothing stands in the way of; returns how many. In the order in which they are given."""
    if not rows:
        return 0
    names, documents = list(rows[0]), _json_columns(table)
    if connection.dialect.name == "sqlite":
        values = {name: bindparam(name, type_=Text if name in documents else table.c[name].type) for name in names}
        new = sqlite.insert(table).values(values).on_conflict_do_nothing()
        return connection.execute(new, [_as_written(row, documents) for row in rows]).rowcount
    arrays = {name: [] for name in names}
    for row in rows:
        for name, value in _as_written(row, documents).items():
            arrays[name].append(value if value is None or isinstance(value, str) else str(value))
    types = {name: table.c[name].type.compile(connection.dialect) for name in names}
    # As arrays in binary form: twice as fast as a statement for each row.
    result = connection.exec_driver_sql(
        f"INSERT INTO {table.name} ({', '.join(names)}) "
        f"SELECT {', '.join(f'CAST({name} AS {types[name]})' for name in names)} "
        f"FROM unnest({', '.join(f'%({name})b::text[]' for name in names)}) WITH ORDINALITY "
        f"AS given ({', '.join(names)}, place_) ORDER BY place_ ON CONFLICT DO NOTHING",
        arrays,
    )
    return result.rowcount


def delete_rows(connection: Connection, table: Table, rows: Sequence[Row], column: str = "id") -> None:
    """Delete the rows of these users with these ids. column: which one holds the id."""
    if rows:
        these = among(connection, table.c[column], [row["id"] for row in rows])
        owners = among(connection, table.c.user_id, list({row["user_id"] for row in rows}))
        connection.execute(delete(table).where(these, owners))


def _read_columns(table: Table) -> list[ColumnElement]:
    documents = _json_columns(table)
    # As text, parsed here: a value that can't be parsed then has a name in the error.
    return [cast(column, Text).label(column.name) if column.name in documents else column for column in table.columns]


def _json_columns(table: Table) -> set[str]:
    return {column.name for column in table.columns if isinstance(column.type, JSON)}


def _parsed(table: Table, found: Sequence[Any]) -> list[Row]:
    documents = _json_columns(table)
    places = [(place, column.name, column.name in documents) for place, column in enumerate(table.columns)]
    rows = []
    for row in found:
        try:
            rows.append(
                {
                    name: _loads(row[place]) if is_json and row[place] is not None else row[place]
                    for place, name, is_json in places
                }
            )
        except ValueError as error:
            raise InvalidInput(
                f"the row {shown(row.id)} of {table.name} holds what is no JSON: {error}. Mend or delete it first."
            ) from None
    return rows


def _as_written(row: Row, documents: set[str]) -> Row:
    return {name: _dumps(value) if name in documents and value is not None else value for name, value in row.items()}
