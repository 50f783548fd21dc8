"""Threads of one process that want the same content: one generates it, the others wait, and then find it.

This saves them the polling. Who may generate is decided by the lease in the database: see `_rows`.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from lib.cache._rows import Entry
from lib.errors import InvalidInput


@dataclass(eq=False, slots=True)
class _KeyLock:
    lock: threading.Lock = field(default_factory=threading.Lock)
    thread: int | None = None  # that holds it


class KeyLocks:
    """A lock for each content that this process is generating just now."""

    def __init__(self) -> None:
        # By process, too: a forked one inherits locks whose threads it hasn't got. No lock around the dict, since
        # `setdefault` and `pop` are atomic.
        self._locks: dict[tuple[int, Entry], _KeyLock] = {}

    @contextmanager
    def held(self, entry: Entry, seconds: float) -> Iterator[None]:
        """Hold the lock of this content for the block. Whoever has had it for so many seconds is waited for no more.

        Errors: InvalidInput, if this very thread holds it.
        """
        address = (os.getpid(), entry)
        while True:
            key_lock = self._locks.setdefault(address, _KeyLock())
            if key_lock.thread == threading.get_ident():
                raise InvalidInput(
                    "generate asked for the very content that it is to generate, and would wait for itself. Give what "
                    "it needs in between a key of its own, such as content_hash(…, step=1)."
                )
            if key_lock.lock.acquire(timeout=seconds):
                break
            self._drop(address, key_lock)
        key_lock.thread = threading.get_ident()
        try:
            yield
        finally:
            key_lock.thread = None
            self._drop(address, key_lock)
            key_lock.lock.release()

    def forget(self, meant: Callable[[Entry], bool]) -> None:
        """Have nobody who asks from now on wait for these: what is being generated for them is out of date."""
        for address, key_lock in list(self._locks.items()):
            if meant(address[1]):
                self._drop(address, key_lock)

    def _drop(self, address: tuple[int, Entry], key_lock: _KeyLock) -> None:
        if self._locks.get(address) is key_lock:
            self._locks.pop(address, None)
