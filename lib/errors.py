"""Errors of the workbook: one root, and a class for each thing that a caller can do about it.

Every message says what was wrong, with the offending value, and what to do.
"""

SHOWN = 60  # characters of an offending value that a message repeats


class WorkbookError(Exception):
    """The root: `except WorkbookError` catches everything that lib raises on purpose."""


class InvalidInput(WorkbookError, ValueError):
    """An argument can't be accepted. Nothing was stored; mend the argument and call again."""


class InvalidDatabaseURL(WorkbookError, ValueError):
    """A database URL can't be read, or names a kind of database that isn't supported."""


class DatabaseUnavailable(WorkbookError):
    """The database can't be reached, or was lost in the middle of a call.

    Every call of the store may be repeated safely: it either happened whole or not at all.
    """


class TablesMissing(WorkbookError):
    """The database answers, but has none of the workbook's tables: call `create_tables(engine)`."""


class ServerStartError(WorkbookError):
    """A local PostgreSQL server could not be found, started or reached."""


class ModelUnavailable(WorkbookError):
    """No chat model can be used as things are set."""


class ExtractionFailed(WorkbookError):
    """A model's answer could not be used, twice; the transcript is kept and can be tried again."""


class ClaimLost(WorkbookError):
    """A conversation is not the caller's to complete any more: its claim lapsed and went on, or its user was forgotten.

    Nothing of the call was kept. Drop the result and claim the next one.
    """


class NotYourRows(WorkbookError):
    """A call on an engine of `as_user` was to write rows of another user. Nothing was stored."""


class IsolationUnavailable(WorkbookError):
    """Row-level security isn't set up, or can't be: the message says what is missing, and who can mend it."""


def shown(value: object) -> str:
    """A value as a message repeats it: `repr`, cut in the middle of nowhere if it is long.

    >>> shown("short")
    "'short'"
    >>> len(shown("x" * 5000)) < 100
    True
    """
    try:
        text = repr(value)
    except Exception:  # a broken __repr__ must not hide the error that we are reporting
        text = f"<{type(value).__name__}>"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}… ({len(text):,} characters)"
