"""What a forked process must not inherit: locks that a thread held, and work that threads were to do."""

import os
from typing import Protocol
from weakref import WeakSet


class Resettable(Protocol):
    def reset(self) -> None:
        """Be as new; called in a child process before anything else runs there."""


_known: "WeakSet[Resettable]" = WeakSet()


def reset_in_child(thing: Resettable) -> None:
    """From now on, `thing.reset()` is called in every process that is forked from this one."""
    _known.add(thing)


def _reset_all() -> None:
    for thing in list(_known):
        thing.reset()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_reset_all)
