"""A process of its own that writes memories, for the tests of what happens between processes.

WORKER_URL=… python reliability_worker.py same-keys WORKER KEYS     write the keys 0 … KEYS-1, after a line on stdin
WORKER_URL=… python reliability_worker.py put COUNT                 put memories; print each key when it is stored
WORKER_URL=… python reliability_worker.py put-many COUNT SIZE       the same with batches; print each batch's number
WORKER_URL=… python reliability_worker.py create-tables             create the tables, after a line on stdin
"""

import os
import sys

from lib.database.engine import connect, create_tables
from lib.store.memory_store import MemoryStore


def main(mode: str, *numbers: str) -> None:
    engine = connect(os.environ["WORKER_URL"])
    store = MemoryStore(engine)
    if mode == "same-keys":
        worker, keys = map(int, numbers)
        wait_for_the_signal()
        for key in range(keys):
            store.put("ada", "shared", f"key-{key}", {"worker": worker, "key": key})
    elif mode == "put":
        for number in range(int(numbers[0])):
            store.put("ada", "log", f"key-{number}", {"number": number})
            print(f"key-{number}", flush=True)  # only now is it promised
    elif mode == "put-many":
        count, size = map(int, numbers)
        for batch in range(count):
            store.put_many("ada", [(f"batch-{batch}", f"key-{key}", {"key": key}) for key in range(size)])
            print(batch, flush=True)
    elif mode == "create-tables":
        wait_for_the_signal()
        create_tables(engine)
    else:
        raise SystemExit(f"unknown mode {mode!r}")


def wait_for_the_signal() -> None:
    """So that all workers begin at one moment, whatever their imports took."""
    print("ready", flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main(*sys.argv[1:])
