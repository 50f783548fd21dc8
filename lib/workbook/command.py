"""The command `workbook`, also as `python -m lib`: open JupyterLab, check, reset, refresh, on-postgres,
practice-model, worker."""

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from lib.errors import WorkbookError

ROOT = Path(__file__).resolve().parents[2]
START = "notebooks/00_start_here.ipynb"
# Else JupyterLab's first start asks whether to fetch news. It's a default, so a choice that the learner has made, or
# makes later, wins; --LabApp.user_settings_dir and --LabApp.app_settings_dir would hide the learner's own settings.
LAB_DEFAULTS = Path(__file__).with_name("lab_defaults")


def main(argv: list[str] | None = None) -> int:
    """Run one command line; returns its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # an old Windows terminal can't print every letter
    try:
        # Options without a command belong to JupyterLab, which knows many more than we would list here.
        if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help")):
            return open_lab(arguments)
        options = _parser().parse_args(arguments)
        return options.run(options)
    except WorkbookError as error:
        print(f"workbook: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="workbook",
        usage="workbook [--no-browser] [--port PORT] [JupyterLab's options]\n       workbook COMMAND ...",
        description="Without a command: open JupyterLab on the first chapter. If the port is taken, the next is used.",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    check = commands.add_parser("check", help="say whether this computer has what the chapters need")
    check.set_defaults(run=lambda options: _check())

    reset = commands.add_parser("reset", help="put notebooks and data back to how they came; yours are copied first")
    reset.add_argument("--yes", action="store_true", help="don't ask")
    reset.set_defaults(run=_reset)

    refresh = commands.add_parser("refresh", help="run notebooks and store their outputs (for authors)")
    refresh.add_argument("notebooks", nargs="*", type=Path, metavar="NOTEBOOK", help="default: all of notebooks/")
    refresh.set_defaults(run=_refresh)

    on_postgres = commands.add_parser("on-postgres", help="run a command with POSTGRES_URL set to a new local server")
    on_postgres.add_argument(
        "--binaries",
        metavar="FOLDER",
        help="the bin folder of another server, such as /usr/lib/postgresql/15/bin; default: the one that came along",
    )
    on_postgres.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND ...")
    on_postgres.set_defaults(run=_on_postgres)

    practice = commands.add_parser("practice-model", help="serve the practice model to any client of OpenAI's API")
    practice.add_argument("--port", type=int, default=0, help="default: one that is free")
    practice.set_defaults(run=_practice_model)

    worker = commands.add_parser("worker", help="work off jobs on the PostgreSQL of POSTGRES_URL, until Ctrl-C")
    worker.add_argument("--concurrency", type=int, default=1, metavar="N", help="jobs at a time (default: 1)")
    worker.add_argument("--until-empty", action="store_true", help="work off what waits now, and leave")
    worker.add_argument("--no-weekly", action="store_true", help="don't make the weekly jobs")
    worker.add_argument("--heartbeat-seconds", type=float, default=10, metavar="S", help="the same for all workers")
    worker.add_argument("--while-stdin", action="store_true", help="leave when the standard input ends")
    worker.set_defaults(run=_worker)
    return parser


def open_lab(arguments: list[str]) -> int:
    """Open JupyterLab in the workbook's folder; returns when it is shut down.

    arguments: handed on to JupyterLab after ours, so they win.
    """
    if not (ROOT / "notebooks").is_dir():
        raise WorkbookError(
            f"there is no folder notebooks in {ROOT}. Install the package from the workbook's own folder with "
            "`uv sync` or `python -m pip install -e .`: the -e matters."
        )
    from jupyterlab.labapp import LabApp

    from lib.workbook.reset import take_snapshot

    take_snapshot(ROOT)
    options = [f"--ServerApp.root_dir={ROOT}"]
    if (ROOT / START).is_file():
        options.append(f"--LabApp.default_url=/lab/tree/{START}")
    if os.name != "nt" and os.geteuid() == 0:
        options.append("--allow-root")
    before = os.environ.get("JUPYTER_CONFIG_PATH")
    os.environ["JUPYTER_CONFIG_PATH"] = os.pathsep.join(filter(None, (before, str(LAB_DEFAULTS))))
    LabApp.launch_instance([*options, *arguments])
    return 0


def _check() -> int:
    from lib.workbook.preflight import preflight

    # A chapter reads .env from its own folder upwards: look from the same place, wherever we were called.
    with contextlib.chdir(ROOT / "notebooks" if (ROOT / "notebooks").is_dir() else ROOT):
        report = preflight()
    print(report)
    print("\nEvery chapter can run." if report.passed else "\nA chapter can't run: see FAIL above.")
    return 0 if report.passed else 1


def _reset(options: argparse.Namespace) -> int:
    from lib.workbook.reset import reset

    return reset(ROOT, yes=options.yes)


def _refresh(options: argparse.Namespace) -> int:
    from lib.workbook.refresh import refresh

    all_paths = sorted((ROOT / "notebooks").rglob("*.ipynb"))
    for path in options.notebooks or [path for path in all_paths if ".ipynb_checkpoints" not in path.parts]:
        refresh(path)
        print(f"{path}: done", flush=True)
    return 0


def _on_postgres(options: argparse.Namespace) -> int:
    from lib.practice.local_postgres import start_postgres

    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        raise WorkbookError("on-postgres needs a command, for example `workbook on-postgres pytest`.")
    # `pytest` and `python` are those of our own environment, also when it isn't activated.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    program = shutil.which(command[0], path=path)
    if program is None:
        print(f"workbook: there is no command {command[0]!r}", file=sys.stderr)
        return 127
    with start_postgres(binaries=options.binaries) as server:
        environment = {**os.environ, "PATH": path, "POSTGRES_URL": server.url}
        running = subprocess.Popen([program, *command[1:]], env=environment)
        try:
            code = running.wait()
        except KeyboardInterrupt:  # it reached the command as well, which may want to tidy up, with the server running
            code = running.wait()
    return code if code >= 0 else 128 - code  # killed by a signal: as a shell reports it


def _practice_model(options: argparse.Namespace) -> int:
    from urllib.request import getproxies

    from lib.practice.practice_model import start_practice_model

    # Double quotes only: the shells of Windows know no others.
    body = r"{\"messages\": [{\"role\": \"user\", \"content\": \"I prefer Python\"}]}"
    try:
        with start_practice_model(options.port) as model:
            print(f"The practice model is at {model.url} until you press Ctrl-C. For its clients, set:\n")
            print(f"OPENAI_BASE_URL={model.url}\nOPENAI_API_KEY=practice")
            if "http" in getproxies():
                print("NO_PROXY=127.0.0.1,localhost")  # else they would ask your proxy for it
            print(f'\nTry it:\ncurl {model.url}/chat/completions -d "{body}"', flush=True)
            while True:
                time.sleep(1)  # in steps, because Ctrl-C doesn't end a wait without an end on Windows
    except KeyboardInterrupt:
        print("stopped")
    return 0


def _worker(options: argparse.Namespace) -> int:
    import logging
    import threading

    from lib.database import configured_url, create_job_tables
    from lib.database.engine import connect
    from lib.jobs.jobs import Jobs

    if configured_url() is None:
        raise WorkbookError(
            "a worker needs a PostgreSQL server, where many processes can share the jobs. Set POSTGRES_URL; without "
            "one, Jobs(engine).run_waiting() does the same work in your own process."
        )
    for name in ("procrastinate", "psycopg.pool"):  # we print a line of our own for each failure
        logging.getLogger(name).setLevel(logging.CRITICAL)
    engine = connect(pool_size=options.concurrency + 1)
    create_job_tables(engine)
    jobs = Jobs(engine, heartbeat_seconds=options.heartbeat_seconds)
    if options.until_empty:
        print(jobs.run_waiting(), flush=True)
        engine.dispose()
        return 0
    stop = threading.Event()
    if options.while_stdin:  # whoever started us has ended, or closed it: a way to stop us on Windows as well

        def stop_after_stdin() -> None:
            os.read(0, 1)  # not sys.stdin, whose lock a thread that waits would still have at our end
            stop.set()

        threading.Thread(target=stop_after_stdin, daemon=True).start()
    jobs.work(
        concurrency=options.concurrency,
        weekly=not options.no_weekly,
        stop=stop,
        say=lambda line: print(line, flush=True),
    )
    engine.dispose()
    return 0


if __name__ == "__main__":
    sys.exit(main())
