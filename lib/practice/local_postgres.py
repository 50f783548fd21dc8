"""A real PostgreSQL server of our own: the one that pip installed, or one found on this computer.

The server stops when the process that started it ends, whatever ends it (see lib.practice._postgres_watcher).
"""

import atexit
import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lib.errors import InvalidInput, ServerStartError
from lib.practice._postgres_programs import (
    EXE,
    check_binaries,
    clean_environment,
    find_binaries,
    reachable,
    reachable_binaries,
    temporary_folder,
    unprivileged,
    version_of,
)

USER = DATABASE = "workbook"
START_SECONDS = 60
PORT = 5432
# Where the server listens is not the caller's to say: its `url` must lead there.
ADDRESS = ("listen_addresses", "port", "unix_socket_directories", "unix_socket_permissions")
NOT_FLUSHED = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


def start_postgres(
    data_folder: str | Path | None = None,
    *,
    binaries: str | Path | None = None,
    settings: Mapping[str, str] | None = None,
    durable: bool = False,
) -> "LocalPostgres":
    """Start a server and return it when it answers; it stops with `stop()`, a `with` block, or this process.

    data_folder: where the data is kept for the next time; None for a temporary folder, which is deleted
        afterwards (and is not flushed to disk, so it's faster; don't time a database with it).
    binaries: the folder of pg_ctl; None takes the one from `find_binaries()`.
    settings: lines of postgresql.conf for this start, such as {"work_mem": "64MB"}.
    durable: flush a temporary folder to disk as well, so that a crash loses nothing that was acknowledged.
    Errors: ServerStartError, with the end of the server's log, also for a setting that the server refuses;
        InvalidInput for a setting that says where the server listens.

    with start_postgres() as server:
        engine = connect(server.url)
    """
    programs = find_binaries() if binaries is None else check_binaries(binaries)
    settings = settings or {}
    if taken := [name for name in settings if name.lower() in ADDRESS]:
        raise InvalidInput(f"start_postgres itself chooses where its server listens; leave {taken[0]} out.")
    return LocalPostgres(data_folder, programs, settings, durable)


class LocalPostgres:
    """A running server. `url` is for `connect`, `version` such as "18.6", `data_folder` where the data lies."""

    def __init__(self, data_folder: str | Path | None, binaries: Path, settings: Mapping[str, str], durable: bool):
        self._watcher: subprocess.Popen[str] | None = None
        self._settings, self._durable = settings, durable
        self._run_as, self._group = unprivileged()
        self._temporary = temporary_folder(self._run_as)
        self._log = self._temporary / "server.log"
        self._log.touch()
        try:
            self._give_away(self._log, self._temporary)  # the log first: in the folder we may be strangers then
            self._bin = reachable_binaries(binaries, self._temporary, self._run_as)
            self.version = version_of(self._bin)
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
        return f"<PostgreSQL {self.version}, {'stopped' if self._watcher is None else 'running'}>"

    def stop(self) -> None:
        """Stop the server; returns when it has stopped. A second call does nothing."""
        watcher, self._watcher = self._watcher, None
        atexit.unregister(self.stop)
        if watcher is None:
            return
        assert watcher.stdin and watcher.stdout
        with contextlib.suppress(OSError):
            watcher.stdin.close()
        watcher.wait(timeout=START_SECONDS)
        watcher.stdout.close()

    def restart(self) -> None:
        """Stop the server in good order and start it again, as an administrator would; the address stays.

        Its clients lose their connections. After a crash it returns when the server has recovered.
        Errors: ServerStartError, if it doesn't start again, or was stopped before.
        """
        if self._watcher is None:
            raise ServerStartError("this server was stopped for good. Start another one by start_postgres().")
        try:
            print(file=self._watcher.stdin, flush=True)
        except OSError:
            raise ServerStartError("the process that watches over this server is gone. Start another server.") from None
        self._wait_until_ready()

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
        script = Path(__file__).with_name("_postgres_watcher.py")
        self._watcher = subprocess.Popen(
            [sys.executable, "-I", str(script), json.dumps(job)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=clean_environment(),
            # A session of its own: the notebook's stop button interrupts the whole group of its kernel,
            # and an interrupt makes a PostgreSQL server shut down.
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),  # Windows alone has it
            start_new_session=True,  # everywhere else
        )
        self._wait_until_ready()
        if port is None:
            address = f"{USER}@/{DATABASE}?host={quote(str(self._temporary), safe='')}&port={PORT}"
        else:
            password = self._password_file(self.data_folder.parent).read_text(encoding="utf-8")
            address = f"{USER}:{password}@127.0.0.1:{port}/{DATABASE}"
        self.url = f"postgresql+psycopg://{address}"
        self._create_database(f"postgresql://{address}")

    def _wait_until_ready(self) -> None:
        assert self._watcher and self._watcher.stdout
        if self._watcher.stdout.readline().strip() != "ready":
            log = self._log.read_text(encoding="utf-8", errors="replace").strip()[-800:]
            if "another server might be running" in log or "lock file" in log:
                raise ServerStartError(
                    f"another PostgreSQL server is using {self.data_folder}. Stop it first, or choose another folder."
                )
            raise ServerStartError(f"the PostgreSQL server did not start. The end of its log:\n{log}")

    def _prepare(self, data_folder: str | Path | None) -> Path:
        """The folder of an initialised database cluster; it is made if it isn't there."""
        folder = self._temporary if data_folder is None else Path(data_folder).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        if self._run_as and not reachable(folder.parent):
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
        program = str(self._bin / f"initdb{EXE}")
        command = [program, "-D", str(partial), f"--username={USER}", "--encoding=UTF8", "--no-sync", *locale, *access]
        options: dict[str, Any] = {"user": self._run_as, "group": self._group, "start_new_session": os.name != "nt"}
        done = subprocess.run(command, capture_output=True, text=True, env=clean_environment(), **options)
        if done.returncode != 0:
            raise ServerStartError(f"initdb failed: {(done.stderr or done.stdout).strip()[-800:]}")
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
        if self.data_folder.is_relative_to(self._temporary) and not self._durable:  # thrown away with the server
            settings |= NOT_FLUSHED
        file = self.data_folder / "workbook.conf"
        lines = [f"{name} = {_quoted(str(value))}\n" for name, value in {**settings, **self._settings}.items()]
        file.write_text("".join(lines), encoding="utf-8")
        self._give_away(file)
        return port

    def _create_database(self, url: str) -> None:
        import psycopg

        try:
            with psycopg.connect(url, dbname="postgres", autocommit=True, connect_timeout=START_SECONDS) as connection:
                row = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone()
                if row is None:
                    connection.execute(f"CREATE DATABASE {DATABASE}")
        except psycopg.OperationalError as error:
            raise ServerStartError(f"the PostgreSQL server doesn't answer: {error}") from None

    def _give_away(self, *paths: Path) -> None:
        if self._run_as:
            for path in paths:
                shutil.chown(path, self._run_as, self._group)

    def _password_file(self, folder: Path) -> Path:
        file = folder / "password"
        if not file.exists():
            file.write_text(secrets.token_urlsafe(24), encoding="utf-8")
        return file


def _quoted(value: str) -> str:
    r"""A value as postgresql.conf wants it.

    >>> print(_quoted("it's"), _quoted("C:\\x"))
    'it''s' 'C:\\x'
    """
    return "'" + value.replace("\\", "\\\\").replace("'", "''").replace("\n", "\\n") + "'"
