"""Modules of lib run as processes of their own, beside the one that starts them."""

import os
import subprocess
import sys
from pathlib import Path


def start_helper(module: str) -> subprocess.Popen:
    """Run a module of lib in a new process, with this Python; what it needs to know goes into its standard input.

    Not by arguments, because every user of the computer can read those, and a database's URL may hold a password.
    """
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    # A session of its own, so that the notebook's stop button, which interrupts the whole group of its kernel, doesn't
    # reach it; -P, so that no file of the folder that we are in is taken for a module.
    apart = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP} if os.name == "nt" else {"start_new_session": True}
    return subprocess.Popen(
        [sys.executable, "-P", "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        **apart,
    )
