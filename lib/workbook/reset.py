"""Put notebooks/ and data/ back to how they came, and lose nothing of the learner's on the way.

The originals are those of git's last commit or, in a folder that was downloaded without git, those of a
snapshot which `workbook` takes before it opens JupyterLab for the first time.
"""

import contextlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from lib.errors import WorkbookError

FOLDERS = ("notebooks", "data")
SNAPSHOT = Path(".workbook", "pristine")
COPIES = "my_copies"
_CACHES = (".ipynb_checkpoints", "__pycache__", ".virtual_documents")


def take_snapshot(root: Path) -> None:
    """Copy notebooks/ and data/ to .workbook/pristine, where that isn't there yet.

    Nothing happens where nobody may write: there, nothing can be changed either.
    """
    snapshot = root / SNAPSHOT
    if snapshot.exists():
        return
    with contextlib.suppress(OSError):
        snapshot.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="partial-", dir=snapshot.parent) as partial:
            whole = Path(partial, "whole")
            for folder in FOLDERS:
                shutil.copytree(root / folder, whole / folder, ignore=shutil.ignore_patterns(*_CACHES))
            whole.rename(snapshot)  # only now: half a snapshot would later pass for all of it


def reset(root: Path, *, yes: bool = False) -> int:
    """List what changed, ask, copy the changed files to my_copies/<UTC time>, put the originals back.

    yes: don't ask. Without it, and without a terminal to ask on, nothing is changed.
    Returns the exit code: 0 when everything is as it came, 1 when changes were left alone.
    """
    originals, source = find_originals(root)
    names = changed_files(root, originals)
    if not names:
        print(f"Nothing to do: notebooks and data are as in {source}.")
        return 0
    print(f"Changed since {source}:")
    for name in names:
        print(f"  {name}" if (root / name).exists() else f"  {name} (deleted)")
    if not yes and not _agreed():
        print("Nothing was changed. Without a terminal to ask on, `workbook reset --yes` goes on.")
        return 1
    try:
        # All copies come before the first replacement: whenever this is interrupted, each file of the
        # learner's is in its old place, in my_copies, or in both.
        copies = keep_copies(root, names)
        for name in names:
            write_atomically(root / name, originals[name])
    except OSError as error:
        raise WorkbookError(
            f"can't write {error.filename}: {error.strerror}. What was put back until now has its copy in {COPIES}; "
            "close the programs that use the file, make sure that you may write here, and run reset again."
        ) from None
    print(f"Put back: {len(names)}. Your versions are in {copies}.")
    print("A notebook that is open in JupyterLab still shows yours: choose File > Reload Notebook from Disk.")
    return 0


def _agreed() -> bool:
    question = f"Put them back? Yours are copied to {COPIES} first. [y/N] "
    return sys.stdin.isatty() and input(question).strip().lower() in ("y", "yes")


def find_originals(root: Path) -> tuple[dict[str, bytes], str]:
    """The content of each original file by its path from root, with "/" on every system; and where it is from."""
    if committed := _committed_files(root):
        return committed, "the last commit"
    snapshot = root / SNAPSHOT
    if snapshot.is_dir():
        files = sorted(path for path in snapshot.rglob("*") if path.is_file())
        return {path.relative_to(snapshot).as_posix(): path.read_bytes() for path in files}, "the first start"
    raise WorkbookError(
        f"the originals of {root} are unknown: it's no git checkout (or git is not installed), and there is no "
        f"{SNAPSHOT.as_posix()}, which `workbook` makes when it opens JupyterLab. Download the workbook again."
    )


def changed_files(root: Path, originals: dict[str, bytes]) -> list[str]:
    """Names of the originals that are missing from root or have another content, sorted."""
    # Files that the learner added have no original, so they are never looked at.
    return sorted(
        name
        for name, content in originals.items()
        if not (root / name).is_file() or (root / name).read_bytes() != content
    )


def keep_copies(root: Path, names: list[str]) -> Path:
    """Copy the files that exist to a new folder my_copies/<UTC time>; returns it."""
    # Microseconds, so that a second reset in one second gets a folder of its own; no ":", which Windows refuses.
    folder = root / COPIES / f"{datetime.now(UTC):%Y-%m-%dT%H-%M-%S-%fZ}"
    folder.mkdir(parents=True)
    for name in names:
        if (root / name).is_file():
            copy = folder / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, copy)
    return folder


def write_atomically(path: Path, content: bytes) -> None:
    """Write the whole file or nothing: a reader, or a kill at any moment, finds the old content or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")  # one fixed name, so that a killed run leaves at most one
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            shutil.copymode(path, partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _committed_files(root: Path) -> dict[str, bytes]:
    """The files of FOLDERS in git's HEAD; empty where root isn't in a checkout that holds them, or there's no git."""
    git = shutil.which("git")
    if git is None:
        return {}
    # `archive` and not `show`: it ends lines as a checkout does here (Windows), so equal files compare equal.
    command = [git, "-C", str(root), "archive", "--format=tar", "HEAD", "--", *FOLDERS]
    packed = subprocess.run(command, capture_output=True).stdout
    if not packed:
        return {}
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        return {member.name: file.read() for member in tar if member.isfile() and (file := tar.extractfile(member))}
