"""A process that drops a practice schema when its owner is gone, however the owner went.

Run by practice_database. It reads from a pipe whose other end the owner holds, as the watcher of a local server does:
first the database's URL, then nothing until the owner has ended. A notebook's kernel is often killed, and has no time
to tidy up.
"""

import os
import sys

from lib.practice import requests_of
from lib.workbook.practice_database import drop_when_free


def main() -> int:
    requests = requests_of(os.getppid())
    job = next(requests, None)  # the schema, a space, the URL
    if job is None:
        return 1
    for _ in requests:
        pass
    drop_when_free(*job.split(" ", 1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
