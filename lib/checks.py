"""Checks of arguments that any part of lib makes; what fails them is named in the error."""

import math
from typing import TypeVar

from lib.errors import InvalidInput, shown

Number = TypeVar("Number", int, float)


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
