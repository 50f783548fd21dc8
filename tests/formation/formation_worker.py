"""A process of its own that extracts the memories of finished conversations.

WORKER_URL=… python formation_worker.py TOTAL LEASE_SECONDS   until so many are extracted; print each one's id

Its model is a sentence of the conversation: what dies here is the worker, and a real client would only make it slower.
"""

import json
import os
import re
import sys
import time
from types import SimpleNamespace
from typing import Any

from lib.database.engine import connect
from lib.formation.extraction import extract_pending
from lib.formation.session_log import SessionLog
from lib.store.memory_store import MemoryStore

THINKING_SECONDS = 0.01  # so that a worker is mostly killed while it thinks, as it would be with a model


class LoudLog(SessionLog):
    def complete(self, claimed, **options):
        result = super().complete(claimed, **options)
        print(claimed.id, flush=True)
        return result


class HouseNumbers:
    """A chat model that finds house numbers."""

    def bind(self, **options: Any) -> "HouseNumbers":
        return self

    def invoke(self, messages: list[tuple[str, str]]) -> SimpleNamespace:
        time.sleep(THINKING_SECONDS)
        turn, number = re.search(r"^\[(\d+)\] user: My house number is (\d+)", messages[-1][1], re.MULTILINE).groups()
        memory = {
            "type": "semantic", "namespace": "facts", "key": f"house_number_{number}", "topics": ["home"],
            "content": f"Has the house number {number}.", "confidence": 1.0, "turn": int(turn),
        }  # fmt: skip
        return SimpleNamespace(text=json.dumps({"memories": [memory]}))


def main(total: str, lease_seconds: str) -> None:
    engine = connect(os.environ["WORKER_URL"])
    log, store = LoudLog(engine, lease_seconds=float(lease_seconds)), MemoryStore(engine)
    while log.counts()["extracted"] < int(total):
        extract_pending(log, store, HouseNumbers())
        time.sleep(0.05)  # what others have claimed comes back to us if they die


if __name__ == "__main__":
    main(*sys.argv[1:])
