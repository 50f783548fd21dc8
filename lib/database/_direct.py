"""Statements sent by the database driver's own cursor, for the calls that are made most."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Dialect, Engine, Executable
from sqlalchemy.exc import DBAPIError

from lib.database._outages import errors_translated
from lib.database._user_binding import bound, stay_bound
from lib.database.transactions import autocommit_connection


class DirectStatement:
    """A statement that is compiled once, and sent by the driver's own cursor.

    SQLAlchemy compiles it, and lends its pool, its types and its errors; what is left out is the work that it
    does anew for every execution, which takes as long as the database does. Where somebody listens to
    the engine's statements (tracing, echo), SQLAlchemy executes it, so that they see it.
    """

    def __init__(self, engine: Engine, sql: Executable):
        self._engine, self._statement = engine, sql
        self._sql, self._by_position, self._by_name, self._readers = _compiled(engine.dialect, sql)

    def in_transaction(self, connection: Connection) -> "DirectStatement":
        """The same statement for a transaction that is open: its `rows` are a part of that one."""
        bound = copy(self)  # not made anew: compiling takes longer than executing
        bound._engine = connection
        return bound

    def rows(self, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Execute as a transaction of its own; all rows that come back."""
        if isinstance(self._engine, Connection) or self._watched():
            with autocommit_connection(self._engine) as connection:
                return self.rows_within(connection, parameters)
        arranged, user = self._arranged(parameters), bound(self._engine)
        with errors_translated(self._engine, parameters), self._autocommitting() as connection:
            if user is None:
                found = connection.execute(self._sql, arranged).fetchall()
            else:
                found = user.executed(connection, self._sql, arranged)
        readers = self._readers
        return [
            tuple([read(value) if read and value is not None else value for read, value in zip(readers, row)])  # noqa: B905
            for row in found
        ]

    def rows_within(self, connection: Connection, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """The same in a transaction that is open."""
        return [tuple(row) for row in connection.execute(self._statement, parameters)]

    def execute_many(self, connection: Connection, rows: Iterable[Mapping[str, Any]]) -> None:
        """Execute once for each row, in a transaction that is open."""
        connection.exec_driver_sql(self._sql, [self._arranged(row) for row in rows])

    def _watched(self) -> bool:
        heard = self._engine.dispatch
        listeners = (*heard.before_cursor_execute, *heard.after_cursor_execute)
        return bool(self._engine.echo) or any(one is not stay_bound for one in listeners)

    def _arranged(self, parameters: Mapping[str, Any]) -> Any:
        """The parameters as the driver takes them."""
        if self._by_position:
            return tuple([convert(parameters[n]) if convert else parameters[n] for n, convert in self._by_position])
        return {n: convert(parameters[n]) if convert else parameters[n] for n, convert in self._by_name.items()}

    @contextmanager
    def _autocommitting(self) -> Iterator[Any]:
        """The driver's own connection, from the pool, with each statement a transaction of its own."""
        dialect = self._engine.dialect
        attribute, on, off = ("isolation_level", None, "") if dialect.name == "sqlite" else ("autocommit", True, False)
        pooled = connection = None
        try:
            pooled = self._engine.raw_connection()
            connection = pooled.driver_connection
            setattr(connection, attribute, on)
            yield connection
            setattr(connection, attribute, off)
        except dialect.loaded_dbapi.Error as error:
            lost = pooled is None or dialect.is_disconnect(error, connection, None)
            if pooled and lost:
                pooled.invalidate(error)
            elif pooled:
                connection.rollback()
                setattr(connection, attribute, off)
            raise DBAPIError.instance(
                self._sql, None, error, dialect.loaded_dbapi.Error, connection_invalidated=lost, dialect=dialect
            ) from error
        except BaseException:
            if pooled:
                pooled.invalidate()  # interrupted: nobody knows what it is in the middle of
            raise
        finally:
            if pooled:
                pooled.close()


@lru_cache(maxsize=64)  # who makes a store for each request would else wait ten times as long for it as for a memory
def _compiled(dialect: Dialect, sql: Executable) -> tuple[str, list, dict, list]:
    """(SQL, converters of parameters by position, the same by name, readers of the columns that come back)"""
    compiled = sql.compile(dialect=dialect)
    impls = {name: bind.type.dialect_impl(dialect) for name, bind in compiled.binds.items()}
    converters = {name: impl.bind_processor(dialect) for name, impl in impls.items()}
    # The rows of a batch share their times; so a converter remembers its last few.
    converters = {name: convert and lru_cache(maxsize=4)(convert) for name, convert in converters.items()}
    by_position = [(name, converters[name]) for name in compiled.positiontup or ()]
    returned = [column.type.dialect_impl(dialect) for column in sql.exported_columns]
    return str(compiled), by_position, converters, [impl.result_processor(dialect, None) for impl in returned]
