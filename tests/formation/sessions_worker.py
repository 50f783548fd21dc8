"""A process of its own that extracts finished conversations, for the tests of what happens between processes.

WORKER_URL=… python sessions_worker.py extract TOTAL LEASE   claim and complete until so many are done; print each id
WORKER_URL=… python sessions_worker.py hang TOTAL LEASE      claim one, write a memory, print its id, and never commit

LEASE is in seconds.

"Extracting" is writing one memory for each conversation, which counts how often it was written.
"""

import os
import sys
import time

from sqlalchemy import Connection

from lib.database.engine import connect
from lib.errors import ClaimLost
from lib.formation.session_log import SessionLog
from lib.store.items import FinishedSession
from lib.store.memory_store import MemoryStore


def main(mode: str, total: str, lease_seconds: str) -> None:
    engine = connect(os.environ["WORKER_URL"])
    log, store = SessionLog(engine, lease_seconds=float(lease_seconds)), MemoryStore(engine)
    while log.counts()["extracted"] < int(total):
        if (claimed := log.claim()) is None:
            time.sleep(0.02)  # others have the last ones; should they die, their claims lapse
            continue
        try:
            log.complete(claimed, write=lambda connection: write(store, claimed, connection, mode))
        except ClaimLost:
            continue
        print(claimed.id, flush=True)


def write(store: MemoryStore, claimed: FinishedSession, connection: Connection, mode: str) -> None:
    inside = store.in_transaction(connection)
    before = inside.get(claimed.user_id, "counts", claimed.id) or {"times": 0}
    inside.put(claimed.user_id, "counts", claimed.id, {"times": before["times"] + 1})
    if mode == "hang":
        print(claimed.id, flush=True)
        sys.stdin.read()  # until we are killed


if __name__ == "__main__":
    main(*sys.argv[1:])
