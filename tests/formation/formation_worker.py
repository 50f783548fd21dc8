"""A process of its own that extracts the memories of finished conversations with a practice model of its own.

WORKER_URL=… python formation_worker.py LEASE_SECONDS     print each session's id when it is done
"""

import os
import sys
import time

from lib.database.engine import connect
from lib.formation.extraction import extract_pending
from lib.formation.session_log import SessionLog
from lib.llm.chat_model import chat_model
from lib.practice.practice_model import Behaviour, start_practice_model
from lib.store.memory_store import MemoryStore


class LoudLog(SessionLog):
    def complete(self, claimed, **options):
        result = super().complete(claimed, **options)
        print(claimed.id, flush=True)
        return result


def main(lease_seconds: str) -> None:
    engine = connect(os.environ["WORKER_URL"])
    log, store = LoudLog(engine, lease_seconds=float(lease_seconds)), MemoryStore(engine)
    # Slow enough that there is work left when a worker that takes the place of a killed one has started.
    slow = start_practice_model(behaviour=Behaviour(first_token_ms=80))
    model = chat_model(practice=slow)
    while log.counts()["pending"] + log.counts()["extracting"]:
        extract_pending(log, store, model)
        time.sleep(0.05)  # what others have claimed comes back to us if they die


if __name__ == "__main__":
    main(*sys.argv[1:])
