"""How many puts and reads a second a database does for several clients at once, each a process of its own."""

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

from lib.database import url_of
from lib.database.engine import connect
from lib.errors import DatabaseUnavailable, InvalidInput, shown
from lib.practice import requests_of
from lib.store.memory_store import MemoryStore
from lib.workbook._helpers import start_helper

KEYS = 200  # that each client writes, over and over, and reads
MAX_CLIENTS = 64


@dataclass(frozen=True)
class Throughput:
    """What all clients did together in one second, on average."""

    clients: int
    puts_per_second: float
    reads_per_second: float


def throughput(engine: Engine, clients: int, seconds: float = 1.0, *, pooled: bool = True) -> Throughput:
    """Have so many processes put memories for some seconds, then read them for as long.

    Each works for a user of its own, `load-trial-…`, who is forgotten afterwards. The processes take a second to start,
    which isn't counted.

    engine: of PostgreSQL or an SQLite file, with the workbook's tables; its schema is used.
    pooled: False opens a connection for each call and closes it, as an application without a pool does.
    Errors: InvalidInput; DatabaseUnavailable, if a client fails.
    """
    if not isinstance(clients, int) or not 1 <= clients <= MAX_CLIENTS:
        raise InvalidInput(f"clients must be a whole number from 1 to {MAX_CLIENTS}, not {shown(clients)}.")
    url = url_of(engine)
    users = [f"load-trial-{number}" for number in range(clients)]
    helpers = [start_helper("lib.workbook.trials.load") for _ in users]
    try:
        for user_id, helper in zip(users, helpers, strict=True):
            _say(helper, {"url": url, "user_id": user_id, "seconds": seconds, "pooled": pooled})
        for helper in helpers:
            _hear(helper)  # it is ready
        counted = []
        for _ in ("puts", "reads"):
            for helper in helpers:
                _say(helper, "go")
            counted.append(sum(map(_hear, helpers)))
    finally:
        for helper in helpers:
            helper.kill()
            helper.communicate()
        store = MemoryStore(engine)
        for user_id in users:
            store.forget_user(user_id)
    return Throughput(clients, *(round(rate) for rate in counted))


def _say(helper: Any, message: Any) -> None:
    helper.stdin.write(json.dumps(message) + "\n")
    helper.stdin.flush()


def _hear(helper: Any) -> float:
    said = helper.stdout.readline()
    if not said:
        raise DatabaseUnavailable("a client of the trial has failed. Does the database take so many connections?")
    return json.loads(said)


def main() -> None:
    """One client: it is told what to do, and tells how many calls a second it made."""
    requests = requests_of(os.getppid())  # ends with our owner, also when that is killed
    job = json.loads(next(requests))
    engine = connect(job["url"])
    if not job["pooled"]:
        engine = create_engine(make_url(engine.url), poolclass=NullPool)
    store, user_id = MemoryStore(engine), job["user_id"]
    store.put_many(user_id, [("load", f"key-{number}", {"content": "before"}) for number in range(KEYS)])
    calls: tuple[Callable[[int], Any], ...] = (
        lambda number: store.put(user_id, "load", f"key-{number % KEYS}", {"content": f"memory {number}"}),
        lambda number: store.get(user_id, "load", f"key-{number % KEYS}"),
    )
    print(0, flush=True)
    for call in calls:
        next(requests)
        number, began = 0, time.perf_counter()
        while (passed := time.perf_counter() - began) < job["seconds"]:
            call(number)
            number += 1
        print(number / passed, flush=True)


if __name__ == "__main__":
    sys.exit(main())
