"""A process that starts a PostgreSQL server and stops it when its owner is gone, however the owner went.

Run by lib.practice.local_postgres as a script, with the standard library alone, so that it starts at once. The owner
holds the other end of our standard input: when the owner ends (even by SIGKILL), the operating system closes
it, and we read end-of-file. Nobody has to remember to clean up.
"""

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator

POLL_SECONDS = 0.5
STOP_SECONDS = 5  # that the server gets for an orderly stop, before it is stopped at once


def main() -> int:
    job = json.loads(sys.argv[1])
    owner = os.getppid()

    def pg_ctl(*arguments: str) -> subprocess.CompletedProcess:
        command = [job["pg_ctl"], "-D", job["data"], *arguments]
        # Not subprocess pipes: the server would inherit them, and reading them would never end.
        with open(job["log"], "ab") as log:  # noqa: PTH123 - job["log"] is a text from JSON
            return subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, user=job["run_as"], group=job["run_as_group"]
            )

    def start() -> bool:
        return pg_ctl("-l", job["log"], "-w", "-t", "60", "start").returncode == 0

    def stop() -> bool:
        return pg_ctl("-m", "fast", "-w", "-t", str(STOP_SECONDS), "stop").returncode == 0 or crash()

    def crash() -> bool:  # every process of the server ends at once; the next start recovers
        return pg_ctl("-m", "immediate", "-w", "stop").returncode == 0

    def tell(done: bool) -> None:
        with contextlib.suppress(OSError):  # the owner may be gone already
            print("ready" if done else "failed", flush=True)

    started = runs = start()
    tell(started)
    for request in requests_of(owner):  # also after a failure: the owner wants to read the log first
        if request == "crash":
            tell(crash())
            runs = False
        elif request == "restart":
            if runs:
                stop()
            tell(start())
            runs = True  # or it may still, if it didn't start in time
    if runs:
        stop()
    shutil.rmtree(job["temporary"], ignore_errors=True)
    return 0 if started else 1


def requests_of(owner: int) -> Iterator[str]:
    """The lines of standard input, until it ends, or until the owner is no longer our parent."""
    line = b""
    while True:
        # A fork of the owner may hold the pipe open after the owner's death. (Windows knows no fork, and its
        # select() can't wait for a pipe.)
        while os.name != "nt" and not select.select([sys.stdin], [], [], POLL_SECONDS)[0]:
            if os.getppid() != owner:
                return
        byte = os.read(sys.stdin.fileno(), 1)
        if not byte:
            return
        if byte == b"\n":
            yield line.decode().strip()
            line = b""
        else:
            line += byte


if __name__ == "__main__":
    sys.exit(main())
