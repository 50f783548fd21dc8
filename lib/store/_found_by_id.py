"""The condition that rows which are found by their ids belong to one user."""

from typing import Any, cast

from sqlalchemy import ColumnElement, String
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement


def of_user(column: ColumnElement[str], user_id: Any) -> ColumnElement[bool]:
    """The condition that rows which are found by their ids are this user's.

    Every statement names its user, so that the tables may be parted by users. SQLite, which knows no numbers of rows,
    would else read all of the user's rows, and look among them for the ids.
    """
    return cast(ColumnElement[bool], _WithoutIndex(column) == user_id)


class _WithoutIndex(FunctionElement[str]):
    """A column as it is, by which SQLite doesn't look rows up in an index."""

    inherit_cache = True
    type = String()


@compiles(_WithoutIndex)
def _plain(element: _WithoutIndex, compiler: Any, **options: Any) -> Any:
    return compiler.process(element.clauses, **options)


@compiles(_WithoutIndex, "sqlite")
def _with_a_sign(element: _WithoutIndex, compiler: Any, **options: Any) -> str:
    return f"+{compiler.process(element.clauses, **options)}"
