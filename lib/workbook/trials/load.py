"""How many puts and reads a second a database does for several clients at once, each a process of its own."""

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from threading import Barrier, BrokenBarrierError
from typing import Any

from sqlalchemy import Engine, create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

from lib.database import url_of
from lib.database.engine import connect
from lib.errors import DatabaseUnavailable
from lib.store.memory_store import MemoryStore

KEYS = 200  # that each client writes, over and over, and reads
WINDOWS = 5  # of putting and of reading, in turn
START_SECONDS = 120  # within which all processes must be ready

_together: Barrier  # in a client's process: where it waits for the others


@dataclass(frozen=True)
class Throughput:
    """What all clients did together in a second, in their best window."""

    clients: int
    puts_per_second: float
    reads_per_second: float


def throughput(engine: Engine, clients: int, seconds: float = 1.0, *, pooled: bool = True) -> Throughput:
    """Have so many processes put memories for some seconds, and read them for as long, in several short windows each.

    The best window counts, of puts and of reads: whatever else the computer does comes in bursts, and makes a window
    slower, never faster. All processes begin each window together, and what they do in it is added up.

    Each works for a user of its own, `load-trial-…`, who is forgotten afterwards. The processes take a second to start,
    which isn't counted.

    engine: of PostgreSQL or an SQLite file, with the workbook's tables; its schema is used.
    pooled: False opens a connection for each call and closes it, as an application without a pool does.
    Errors: DatabaseUnavailable, if a client fails; what the first put raises.
    """
    url, store = url_of(engine), MemoryStore(engine)
    users = [f"load-trial-{number}" for number in range(clients)]
    for user_id in users:
        store.put_many(user_id, [("load", f"key-{number}", {"content": "before"}) for number in range(KEYS)])
    context = get_context("spawn")
    barrier = context.Barrier(clients, timeout=START_SECONDS)
    try:
        with ProcessPoolExecutor(clients, context, initializer=_share, initargs=(barrier,)) as pool:
            running = [pool.submit(_rates, url, user_id, seconds, pooled) for user_id in users]
            rates = [client.result() for client in running]
    except BrokenBarrierError:
        raise DatabaseUnavailable("a client has failed. Does the database take so many connections?") from None
    finally:
        for user_id in users:
            store.forget_user(user_id)
    puts, reads = (max(map(sum, zip(*by_client, strict=True))) for by_client in zip(*rates, strict=True))
    return Throughput(clients, round(puts), round(reads))


def _share(barrier: Barrier) -> None:
    global _together
    _together = barrier


def _rates(url: str, user_id: str, seconds: float, pooled: bool) -> tuple[list[float], list[float]]:
    """Be one client: return its puts and its reads per second, in each window."""
    try:
        engine = connect(url)
        if not pooled:
            engine = create_engine(make_url(engine.url), poolclass=NullPool)
        store = MemoryStore(engine)
        store.get(user_id, "load", "key-0")  # the first call of all prepares what later ones use
    except Exception:
        _together.abort()  # the others needn't wait
        raise
    puts, reads, window = [], [], seconds / WINDOWS
    for _ in range(WINDOWS):
        puts.append(
            _calls_per_second(
                lambda n: store.put(user_id, "load", f"key-{n % KEYS}", {"content": f"memory {n}"}), window
            )
        )
        reads.append(_calls_per_second(lambda n: store.get(user_id, "load", f"key-{n % KEYS}"), window))
    return puts, reads


def _calls_per_second(call: Callable[[int], Any], seconds: float) -> float:
    _together.wait()
    number, began = 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds:
        call(number)
        number += 1
    return number / passed
