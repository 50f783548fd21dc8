"""A process of its own that claims a conversation, writes a memory, prints the id, and never commits.

WORKER_URL=… python sessions_worker.py
"""

import os
import sys

from sqlalchemy import Connection

from lib.database.engine import connect
from lib.formation.session_log import SessionLog
from lib.store.memory_store import MemoryStore


def main() -> None:
    engine = connect(os.environ["WORKER_URL"])
    log, store = SessionLog(engine, lease_seconds=0.05), MemoryStore(engine)
    claimed = log.claim()

    def write(connection: Connection) -> None:
        store.in_transaction(connection).put(claimed.user_id, "counts", claimed.id, {"times": 1})
        print(claimed.id, flush=True)
        sys.stdin.read()  # until we are killed

    log.complete(claimed, write=write)


if __name__ == "__main__":
    main()
