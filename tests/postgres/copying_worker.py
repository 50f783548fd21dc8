"""A process of its own that copies memories, to be killed in the middle by the tests of lib.postgres.transfer.

SOURCE_URL=… TARGET_URL=… python copying_worker.py     prints "wrote" in the transaction of each write

It waits for a line on its standard input, so that it may start early.
"""

import os
from typing import Any

import lib.postgres.transfer
from lib.database.engine import connect

store = lib.postgres.transfer._store


def store_and_tell(connection: Any, statement: Any, rows: list[dict[str, Any]]) -> None:
    store(connection, statement, rows)
    if rows:
        print("wrote", flush=True)


if __name__ == "__main__":
    lib.postgres.transfer._store = store_and_tell
    input()
    lib.postgres.transfer.copy_memories(connect(os.environ["SOURCE_URL"]), connect(os.environ["TARGET_URL"]))
