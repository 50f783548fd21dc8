"""A process of its own that copies memories, to be killed in the middle by the tests of lib.postgres.copy_memories.

SOURCE_URL=… TARGET_URL=… python copying_worker.py     prints "wrote" in the transaction of each write

It waits for a line on its standard input, so that it may start early.
"""

import os
from typing import Any

import lib.postgres.copy_memories
from lib.database.engine import connect

store = lib.postgres.copy_memories._store


def store_and_tell(connection: Any, statement: Any, rows: list[dict[str, Any]]) -> None:
    store(connection, statement, rows)
    if rows:
        print("wrote", flush=True)


if __name__ == "__main__":
    lib.postgres.copy_memories._store = store_and_tell
    input()
    lib.postgres.copy_memories.copy_memories(connect(os.environ["SOURCE_URL"]), connect(os.environ["TARGET_URL"]))
