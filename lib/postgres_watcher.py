"""A process that starts a PostgreSQL server and stops it when its owner is gone, however the owner went.

Run by lib.local_postgres as a script, with the standard library alone, so that it starts at once. The owner
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
            streams = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
            return subprocess.run(command, user=job["run_as"], group=job["run_as_group"], **streams)

    started = pg_ctl("-l", job["log"], "-w", "-t", "60", "start").returncode == 0
    with contextlib.suppress(OSError):  # the owner may be gone already
        print("ready" if started else "failed", flush=True)
    if started:
        wait_for_the_end_of(owner)
        if pg_ctl("-m", "fast", "-w", "-t", str(STOP_SECONDS), "stop").returncode != 0:
            pg_ctl("-m", "immediate", "-w", "stop")
    else:
        wait_for_the_end_of(owner)  # who wants to read the log first
    shutil.rmtree(job["temporary"], ignore_errors=True)
    return 0 if started else 1


def wait_for_the_end_of(owner: int) -> None:
    """Return when standard input ends, or when the owner is no longer our parent."""
    if os.name == "nt":  # select() can't wait for a pipe there
        sys.stdin.read()
        return
    while os.getppid() == owner:  # a fork of the owner may hold the pipe open after the owner's death
        readable, _, _ = select.select([sys.stdin], [], [], POLL_SECONDS)
        if readable and not os.read(sys.stdin.fileno(), 1):
            return


if __name__ == "__main__":
    sys.exit(main())
