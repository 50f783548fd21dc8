"""Threads of one process that want the same content: one flies, the others wait for it to land."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from lib.cache._forked import reset_in_child
from lib.cache._rows import Entry
from lib.errors import InvalidInput

FIRST_PAUSE, MAX_PAUSE = 0.01, 0.5  # seconds between looks at what another process generates
RECHECK = 1.0  # seconds after which a waiting thread looks whether its time is over


@dataclass(eq=False, slots=True)
class Flight:
    """Somebody in this process is generating a content; the others wait until it is there, or the time is over."""

    until: float  # by time.monotonic(); set anew as long as it waits for a lease, and when it has one
    thread: int = field(default_factory=threading.get_ident)
    landed: threading.Event = field(default_factory=threading.Event)
    row: tuple[Any, ...] | None = None  # (content as JSON, *KEPT), once there is one

    def wait(self) -> bool:
        """Wait until it has landed, or its time is over; whether it has landed."""
        while not self.landed.is_set() and (left := self.until - time.monotonic()) > 0:
            self.landed.wait(min(left, RECHECK))  # the end may be set, or moved, while we wait
        return self.landed.is_set()


class Flights:
    """What this process generates just now, by entry."""

    def __init__(self) -> None:
        self.reset()
        reset_in_child(self)

    def reset(self) -> None:
        """Nobody is generating anything."""
        self._lock = threading.Lock()
        self._flights: dict[Entry, Flight] = {}

    def join(self, entry: Entry, seconds: float) -> tuple[Flight, bool]:
        """The flight for this entry, and whether it is ours to lead. seconds: that a new one has for the beginning."""
        with self._lock:
            flight = self._flights.get(entry)
            if flight is None:
                flight = self._flights[entry] = Flight(time.monotonic() + seconds)
                return flight, True
        if flight.thread == threading.get_ident() and not flight.landed.is_set():
            raise InvalidInput(
                "generate asked for the very content that it is to generate, and would wait for itself. Give what it "
                "needs in between a key of its own, such as content_hash(…, step=1)."
            )
        return flight, False

    def land(self, entry: Entry, flight: Flight) -> None:
        """End it; those who wait go on."""
        with self._lock:
            if self._flights.get(entry) is flight:
                del self._flights[entry]
        flight.landed.set()

    def forget(self, meant: Callable[[Entry], bool]) -> None:
        """Nobody joins these any more; those who did are still served."""
        with self._lock:
            for entry in [entry for entry in self._flights if meant(entry)]:
                del self._flights[entry]


def pauses() -> Iterator[float]:
    """Seconds to sleep between looks, each pause half as long again as the one before."""
    pause = FIRST_PAUSE
    while True:
        yield pause
        pause = min(pause * 1.5, MAX_PAUSE)
