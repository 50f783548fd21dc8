"""A process of its own that uses the store while its server goes away, for the tests of what its callers see.

WORKER_URL=… python outage_worker.py USER COUNT

Prints "ready", and after a line on stdin makes COUNT puts, with other calls between. Each call is simply made again
while it raises DatabaseUnavailable; once that has taken a minute, it is the last call. Prints one JSON at the end:
{"acknowledged", "again", "others"}: the numbers of the puts that came back, how often a call was made again, and by
whatever else was raised, how often.
"""

import json
import os
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from word_embedder import WordEmbedder

from lib.database.engine import connect
from lib.errors import DatabaseUnavailable
from lib.formation.session_log import SessionLog
from lib.retrieval.search import retrieve
from lib.store.memory_store import MemoryStore

TALK = [{"turn": 1, "speaker": "user", "text": "I moved."}]
GIVE_UP_SECONDS = 60  # after which a caller has waited too long for one call

again = 0
others: Counter[str] = Counter()


class GaveUp(Exception):
    """A call didn't come back in time: the database may never do so."""


def main(user_id: str, count: int) -> None:
    engine = connect(os.environ["WORKER_URL"])
    store, log, embedder = MemoryStore(engine), SessionLog(engine), WordEmbedder()
    between = (
        lambda number: store.get(user_id, "log", f"key-{number}"),
        lambda number: store.search(user_id, limit=3),
        lambda number: store.search_by_content(user_id, f"number {number}", limit=3),
        lambda number: store.put_many(user_id, [("batch", f"key-{number % 50}", {"number": number})]),
        lambda number: log.finish(user_id, TALK, session_id=str(uuid.uuid5(uuid.NAMESPACE_URL, f"{user_id}/{number}"))),
        lambda number: log.list(user_id, limit=3),
        lambda number: store.list_namespaces(user_id),
        lambda number: retrieve(store, user_id, f"number {number}", embedder=embedder) if number % 7 == 0 else None,
    )
    print("ready", flush=True)
    sys.stdin.readline()
    acknowledged = []
    with suppress(GaveUp):
        for number in range(count):
            value = {"content": f"number {number}"}
            insist("put", lambda value=value, number=number: store.put(user_id, "log", f"key-{number}", value))
            acknowledged.append(number)
            if number % 4 == 0:
                turn = number // 4 % len(between)
                insist(f"call {turn}", lambda turn=turn, number=number: between[turn](number))
    print(json.dumps({"acknowledged": acknowledged, "again": again, "others": others}), flush=True)


def insist(name: str, call: Callable[[], Any]) -> None:
    """Make a call until it comes back; errors that no caller should see are counted. Errors: GaveUp."""
    global again
    deadline = time.monotonic() + GIVE_UP_SECONDS
    while time.monotonic() < deadline:
        try:
            call()
            return
        except DatabaseUnavailable:
            again += 1
        except Exception as error:
            others[f"{name}: {type(error).__module__}.{type(error).__name__}: {str(error)[:300]}"] += 1
        time.sleep(0.02)
    others[f"{name}: gave up"] += 1
    raise GaveUp


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
