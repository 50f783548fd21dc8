"""A process of its own that copies memories, to be killed in the middle by the tests of lib.copying.

SOURCE_URL=… TARGET_URL=… python copying_worker.py     prints "begun" before the copy, and "done" if it comes so far
"""

import os

import lib.bulk
from lib.copying import copy_memories
from lib.database import connect

if __name__ == "__main__":
    lib.bulk.PAGE_ROWS = 50  # many transactions, so that there is much to be interrupted between and in
    source, target = connect(os.environ["SOURCE_URL"]), connect(os.environ["TARGET_URL"])
    print("begun", flush=True)
    copy_memories(source, target)
    print("done", flush=True)
