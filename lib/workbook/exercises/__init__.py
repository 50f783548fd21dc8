"""Exercises that check themselves: `check("2.1", my_function)` prints a pass, or what is wrong and what to try.

A check is a function that takes the reader's answer and stops at the first fault it finds: `expect` says what should
have come, `wrong` anything else.
"""

import inspect
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pkgutil import iter_modules
from types import FunctionType
from typing import Any, NoReturn

from lib.errors import InvalidInput, shown

CHECKS: dict[str, Callable[[Any], None]] = {}


class Wrong(Exception):
    """An answer that a check refuses; the message is for the reader."""


def wrong(message: str) -> NoReturn:
    raise Wrong(message)


def expect(result: Any, right: Any, why: str) -> None:
    """Refuse a result that isn't right. A fraction may be a thousandth off; True and False are no numbers."""
    if isinstance(right, float) and isinstance(result, int | float):
        same = math.isclose(result, right, rel_tol=0.001)
    else:
        same = result == right and isinstance(result, bool) == isinstance(right, bool)
    if not same:
        wrong(f"{why}. Right is {right!r}, and yours is {result!r}.")


def try_cases(answer: Callable[..., Any], cases: Iterable[tuple[tuple[Any, ...], Any, str]]) -> None:
    """Call the answer with the arguments of each case: (arguments, right, why it is right)."""
    for arguments, right, why in cases:
        expect(answer(*arguments), right, f"for {', '.join(map(repr, arguments))}: {why}")


@contextmanager
def expect_error(error: type[Exception], why: str) -> Iterator[None]:
    """Refuse a call in the block that doesn't raise this error."""
    try:
        yield
    except error:
        return
    wrong(why)


def exercise(number: str) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    """Register a check under its number, such as "2.1"."""

    def register(function: Callable[[Any], None]) -> Callable[[Any], None]:
        CHECKS[number] = function
        return function

    return register


def check(number: str, answer: Any) -> None:
    """Print whether the answer to an exercise is right. Never raises, whatever the answer does."""
    for module in iter_modules(__path__):
        import_module(f"lib.workbook.exercises.{module.name}")
    if number not in CHECKS:
        raise InvalidInput(f"there is no exercise {shown(number)}. There are: {', '.join(sorted(CHECKS))}.")
    print(f"{number} {verdict(number, answer)}")


def verdict(number: str, answer: Any) -> str:
    """What `check` prints after the number: "passed", "not yet: …", or the fault."""
    if untouched(answer):
        return "not yet: replace the three dots with your answer, run that cell, then this one again."
    try:
        CHECKS[number](answer)
    except Wrong as fault:
        return f"not right yet: {fault}"
    except Exception as error:
        return f"not right yet: your code stopped with {type(error).__name__}: {error}"
    return "passed. Well done."


def untouched(answer: Any) -> bool:
    """Whether this is a stub as the notebook came: `...`, or a function that ends with it."""
    return inspect.getsource(answer).rstrip().endswith("...") if isinstance(answer, FunctionType) else answer is ...
