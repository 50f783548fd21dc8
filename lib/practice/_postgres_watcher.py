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

    def stop() -> None:
        if pg_ctl("-m", "fast", "-w", "-t", str(STOP_SECONDS), "stop").returncode != 0:
            pg_ctl("-m", "immediate", "-w", "stop")

    def tell(done: bool) -> None:
        with contextlib.suppress(OSError):  # the owner may be gone already
            print("ready" if done else "failed", flush=True)

    started = start()
    tell(started)
    while asks_for_restart(owner):  # waits also after a failure: the owner wants to read the log first
        stop()
        tell(start())
    if started:  # else it may be somebody else's server that runs on this data
        stop()
    shutil.rmtree(job["temporary"], ignore_errors=True)
    return 0 if started else 1


def asks_for_restart(owner: int) -> bool:
    """Wait until the owner writes a line (True), closes its end, or is no longer our parent."""
    # A fork of the owner may hold the pipe open after the owner's death. (Windows knows no fork, and its
    # select() can't wait for a pipe.)
    while os.name != "nt" and not select.select([sys.stdin], [], [], POLL_SECONDS)[0]:
        if os.getppid() != owner:
            return False
    return bool(sys.stdin.readline())


if __name__ == "__main__":
    sys.exit(main())
