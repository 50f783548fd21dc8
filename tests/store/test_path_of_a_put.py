"""How many files a reader has to open to follow one put from the call to the database."""

import sys
from pathlib import Path
from types import FrameType

import pytest
from sqlalchemy import Engine

import lib
from lib.store.memory_store import MemoryStore

LIB = Path(lib.__file__).parent
PATH = {
    "store/memory_store.py",  # put: checks, then one statement
    "store/values.py",  # what may be stored, and its search text
    "text_terms.py",  # folding
    "database/tables.py",  # the new id, times in UTC
    "database/transactions.py",  # a connection in which each statement is a transaction
}


def files_passed_through(call) -> set[str]:
    """The files of lib in which a function was called meanwhile."""
    passed: set[str] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        file = Path(frame.f_code.co_filename)
        if event == "call" and file.is_relative_to(LIB):
            passed.add(file.relative_to(LIB).as_posix())

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    return passed


@pytest.mark.parametrize("text", ["Prefers worked examples", "Habite à Montréal", "日本語"])
def test_a_put_passes_through_at_most_five_files(engine: Engine, text: str) -> None:
    store = MemoryStore(engine)
    value = {"content": text, "topics": ["S3", 7], "confidence": 0.5}

    for key in ("of a new user", "new", "new"):  # the last one replaces a memory
        passed = files_passed_through(lambda key=key: store.put("ada", "facts", key, value))

        assert passed <= PATH
    assert len(PATH) <= 5


def test_the_trace_sees_a_file_that_is_passed_through() -> None:
    from lib.store.filters import folded_term

    assert files_passed_through(lambda: folded_term("É")) == {"store/filters.py", "store/values.py", "text_terms.py"}
