"""Checks of arguments that any part of lib makes; what fails them is named in the error."""

import functools
import math
import warnings
from collections.abc import Callable
from typing import Any, TypeVar, cast

from lib.errors import InvalidInput, shown

Number = TypeVar("Number", int, float)
Function = TypeVar("Function", bound=Callable[..., Any])


def checked_number(name: str, value: Number, low: float, high: float = math.inf, *, whole: bool = False) -> Number:
    """Return the number if it is from low to high, both included; neither NaN, infinite nor a bool is one.

    whole: accept an int only.
    Errors: InvalidInput, with the name and the value.

    >>> checked_number("limit", 10, 0, 1000, whole=True)
    10
    """
    is_number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    if is_number and low <= value <= high and (whole or math.isfinite(value)):
        return value
    bounds = f"of at least {low:,}" if high == math.inf else f"from {low:,} to {high:,}"
    raise InvalidInput(f"{name} must be a {'whole ' if whole else ''}number {bounds}, not {shown(value)}.")


def renamed(**names: str) -> Callable[[Function], Function]:
    """Let a function be called by the former names of its options, too, with a DeprecationWarning: former=present."""

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def call(*args: Any, **options: Any) -> Any:
            for former in names.keys() & options.keys():
                if names[former] in options:
                    raise InvalidInput(f"{former} is called {names[former]} now; both were given. Leave {former} out.")
                warnings.warn(f"{former} is called {names[former]} now", DeprecationWarning, stacklevel=2)
                options[names[former]] = options.pop(former)
            return function(*args, **options)

        return cast(Function, call)

    return decorate
