"""A process of its own that copies memories, to be killed in the middle by the tests of lib.postgres.copy_memories.

SOURCE_URL=… TARGET_URL=… python copying_worker.py     prints "wrote" in the transaction of each write
"""

import os
from typing import Any

import lib.postgres._bulk
import lib.postgres.copy_memories
from lib.database.engine import connect


def insert_rows(*arguments: Any) -> int:
    count = lib.postgres._bulk.insert_rows(*arguments)
    print("wrote", flush=True)
    return count


if __name__ == "__main__":
    lib.postgres._bulk.PAGE_ROWS = 50  # many transactions, so that there is much to be interrupted between and in
    lib.postgres.copy_memories.insert_rows = insert_rows
    lib.postgres.copy_memories.copy_memories(connect(os.environ["SOURCE_URL"]), connect(os.environ["TARGET_URL"]))
