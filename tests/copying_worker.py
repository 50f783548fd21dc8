"""A process of its own that copies memories, to be killed in the middle by the tests of lib.copying.

SOURCE_URL=… TARGET_URL=… python copying_worker.py     prints "wrote" in the transaction of each write
"""

import os
from typing import Any

import lib.bulk
import lib.copying
from lib.database import connect


def insert_rows(*arguments: Any) -> int:
    count = lib.bulk.insert_rows(*arguments)
    print("wrote", flush=True)
    return count


if __name__ == "__main__":
    lib.bulk.PAGE_ROWS = 50  # many transactions, so that there is much to be interrupted between and in
    lib.copying.insert_rows = insert_rows
    lib.copying.copy_memories(connect(os.environ["SOURCE_URL"]), connect(os.environ["TARGET_URL"]))
