"""The command `workbook`: JupyterLab, check, reset, refresh, on-postgres."""

import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path

import nbformat
import pytest
from jupyter_client.channels import AsyncZMQSocketChannel

from lib import connect
from lib.errors import DatabaseUnavailable, ServerStartError, WorkbookError
from lib.practice._postgres_programs import find_binaries
from lib.practice.local_postgres import start_postgres
from lib.workbook import preflight, reset
from lib.workbook.command import main
from lib.workbook.refresh import refresh

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 60  # longest wait for another process
GIT = ["git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false"]


def workbook(folder: Path, *arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
    """Run the command of the copy in `folder`, without a terminal."""
    return subprocess.run(
        [sys.executable, "-m", "lib", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(folder), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=SECONDS,
    )


def notebook(path: Path, *sources: str) -> Path:
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


@pytest.fixture
def learner(tmp_path):
    """A copy of the workbook with two notebooks and a data set, in a path with a space; it's no git checkout."""
    return make_copy(tmp_path / "Ada's work book")


def make_copy(folder: Path) -> Path:
    shutil.copytree(ROOT / "lib", folder / "lib", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "requirements.txt", ".gitattributes", ".gitignore"):
        shutil.copy(ROOT / name, folder / name)
    notebook(folder / "notebooks" / "00_start_here.ipynb", "1 + 1")
    notebook(folder / "notebooks" / "solutions" / "01 café.ipynb", "2 + 2")
    (folder / "data").mkdir()
    (folder / "data" / "memories.jsonl").write_bytes(b'{"a": 1}\n')
    return folder


def commit(folder: Path) -> None:
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "as it came"]):
        subprocess.run([*GIT, *arguments], cwd=folder, check=True)


def tree(folder: Path) -> dict[str, bytes]:
    """The content of notebooks/ and data/."""
    paths = (path for name in ("notebooks", "data") for path in (folder / name).rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def work_on(folder: Path) -> None:
    """Change one notebook, delete the data set, add a notebook."""
    (folder / "notebooks" / "solutions" / "01 café.ipynb").write_text("my own work", encoding="utf-8")
    (folder / "data" / "memories.jsonl").unlink()
    (folder / "notebooks" / "mine.ipynb").write_text("an added file", encoding="utf-8")


# The command as a whole


def test_help_lists_the_commands_and_loads_no_jupyter(tmp_path):
    code = (
        "import sys, lib.workbook.command as m\n"
        "try: m.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('jupyterlab', 'nbclient', 'nbformat')])"
    )

    printed = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True).stdout

    assert all(command in printed for command in ("check", "reset", "refresh", "on-postgres", "--no-browser"))
    assert printed.splitlines()[-1] == "[]"


def test_an_unknown_command_is_refused_with_the_known_ones(capsys):
    with pytest.raises(SystemExit) as refused:
        main(["chekc"])

    assert refused.value.code == 2
    assert "'chekc'" in capsys.readouterr().err


# JupyterLab


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """JupyterLab as `workbook --no-browser --port TAKEN` starts it, from a foreign folder, for a learner with settings.

    Gives (address, token, taken port, folder of the workbook).
    """
    base = tmp_path_factory.mktemp("lab")
    folder = make_copy(base / "work book")
    elsewhere = base / "elsewhere"
    settings = base / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    elsewhere.mkdir()
    settings.parent.mkdir(parents=True)
    settings.write_text('{"doNotDisturbMode": true}', encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JUPYTER")}
    environment |= {"PYTHONPATH": str(folder), "JUPYTERLAB_SETTINGS_DIR": str(base / "settings")}
    environment |= {f"JUPYTER_{kind}_DIR": str(base / kind) for kind in ("CONFIG", "DATA", "RUNTIME")}
    with socket.socket() as occupant, (base / "log").open("wb") as log:
        occupant.bind(("127.0.0.1", 0))
        occupant.listen()
        taken = occupant.getsockname()[1]
        token = "--IdentityProvider.token=passed-through"
        command = [sys.executable, "-m", "lib", "--no-browser", "--port", str(taken), token]
        server = subprocess.Popen(command, cwd=elsewhere, env=environment, stdout=log, stderr=log)
        try:
            yield _address(server, base / "log"), "passed-through", taken, folder
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(SECONDS)


def _address(server: subprocess.Popen, log: Path) -> str:
    deadline = time.monotonic() + SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        if found := re.search(r"http://(?:127\.0\.0\.1|localhost):\d+/lab\S*", log.read_text(encoding="utf-8")):
            return found[0]
        time.sleep(0.05)
    raise AssertionError(f"JupyterLab did not start:\n{log.read_text(encoding='utf-8')}")


def fetch(address: str, token: str, path: str) -> str:
    base = re.match(r"http://[^/]+", address)[0].replace("localhost", "127.0.0.1")
    request = urllib.request.Request(f"{base}{path}", headers={"Authorization": f"token {token}"})
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:
                return answer.read().decode()
        except urllib.error.URLError as error:
            # The address is printed a moment before the port is open.
            if isinstance(error, urllib.error.HTTPError) or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def test_jupyterlab_answers_beside_a_taken_port_with_arguments_passed_on(lab):
    address, token, taken, _ = lab

    page = fetch(address, token, "/lab")

    assert "<title>JupyterLab</title>" in page
    assert f":{taken}/" not in address


def test_jupyterlab_opens_the_first_chapter_of_the_workbooks_folder(lab):
    address, token, _, folder = lab

    listed = json.loads(fetch(address, token, "/api/contents/notebooks"))

    assert "/lab/tree/notebooks/00_start_here.ipynb" in address
    assert "00_start_here.ipynb" in [entry["name"] for entry in listed["content"]]
    assert (folder / "notebooks" / "00_start_here.ipynb").is_file()


def test_jupyterlab_asks_nothing_about_news_and_keeps_the_learners_settings(lab):
    address, token, _, _ = lab

    answer = json.loads(fetch(address, token, "/lab/api/settings/@jupyterlab/apputils-extension:notification"))

    assert answer["schema"]["properties"]["fetchNews"]["default"] == "false"
    assert answer["settings"] == {"doNotDisturbMode": True}


def test_the_first_start_takes_a_snapshot(lab):
    _, _, _, folder = lab

    snapshot = folder / ".workbook" / "pristine"

    assert tree(snapshot) == tree(folder)


def test_without_the_notebooks_the_command_says_how_to_install(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("lib.workbook.command.ROOT", tmp_path)

    code = main([])

    assert code == 1
    assert "pip install -e ." in capsys.readouterr().err


# reset


def test_reset_puts_the_committed_files_back_and_keeps_the_learners(learner, tmp_path):
    commit(learner)
    before = tree(learner)
    work_on(learner)

    done = workbook(learner, "reset", "--yes", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert "notebooks/solutions/01 café.ipynb" in done.stdout
    assert "data/memories.jsonl (deleted)" in done.stdout
    assert tree(learner) == {**before, "notebooks/mine.ipynb": b"an added file"}
    (copies,) = (learner / "my_copies").iterdir()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d-\d{6}Z", copies.name)
    assert tree(copies) == {"notebooks/solutions/01 café.ipynb": b"my own work"}


def test_reset_without_git_does_the_same_from_the_snapshot(learner, monkeypatch):
    monkeypatch.setattr("lib.workbook.command.ROOT", learner)
    reset.take_snapshot(learner)
    before = tree(learner)
    work_on(learner)

    code = main(["reset", "--yes"])

    assert code == 0
    assert tree(learner) == {**before, "notebooks/mine.ipynb": b"an added file"}
    (copies,) = (learner / "my_copies").iterdir()
    assert tree(copies) == {"notebooks/solutions/01 café.ipynb": b"my own work"}


def test_reset_without_a_terminal_changes_nothing_and_says_so(learner, monkeypatch, capsys):
    monkeypatch.setattr("lib.workbook.command.ROOT", learner)
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    reset.take_snapshot(learner)
    work_on(learner)
    before = tree(learner)

    code = main(["reset"])

    printed = capsys.readouterr().out
    assert code == 1
    assert "Nothing was changed" in printed and "--yes" in printed
    assert tree(learner) == before
    assert not (learner / "my_copies").exists()


@pytest.mark.parametrize(("answer", "code"), [("y", 0), (" YES ", 0), ("n", 1), ("", 1)])
def test_reset_does_what_is_answered(learner, monkeypatch, answer, code):
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: answer)
    reset.take_snapshot(learner)
    work_on(learner)

    returned = reset.reset(learner)

    assert returned == code
    assert (learner / "data" / "memories.jsonl").exists() is (code == 0)


def test_reset_of_an_untouched_workbook_has_nothing_to_do(learner, capsys):
    commit(learner)

    code = reset.reset(learner, yes=True)

    assert code == 0
    assert capsys.readouterr().out.startswith("Nothing to do")
    assert not (learner / "my_copies").exists()


def test_a_reset_that_is_killed_while_replacing_has_all_copies(learner, monkeypatch):
    reset.take_snapshot(learner)
    for name in tree(learner):
        (learner / name).write_text(f"mine: {name}", encoding="utf-8")
    mine = tree(learner)
    replaced = []

    def killed_at_the_second(path, content):
        if replaced:
            raise KeyboardInterrupt
        replaced.append(path)

    monkeypatch.setattr(reset, "write_atomically", killed_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        reset.reset(learner, yes=True)

    (copies,) = (learner / "my_copies").iterdir()
    assert tree(copies) == mine


def test_a_copy_that_fails_leaves_everything_in_place(learner, monkeypatch):
    reset.take_snapshot(learner)
    work_on(learner)
    before = tree(learner)

    def disk_full(source, target):
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr("lib.workbook.reset.shutil.copy2", disk_full)
    with pytest.raises(WorkbookError, match="No space left"):
        reset.reset(learner, yes=True)

    assert tree(learner) == before


def test_two_resets_in_one_second_keep_both_copies(learner):
    reset.take_snapshot(learner)
    data = learner / "data" / "memories.jsonl"

    for content in (b"first", b"second"):
        data.write_bytes(content)
        reset.reset(learner, yes=True)

    kept = {path.read_bytes() for path in (learner / "my_copies").rglob("memories.jsonl")}
    assert kept == {b"first", b"second"}


def test_reset_within_another_git_repository_uses_the_snapshot(learner):
    reset.take_snapshot(learner)
    subprocess.run([*GIT, "init", "-q"], cwd=learner.parent, check=True)
    (learner.parent / "readme").write_text("a repository of the learner's")
    subprocess.run([*GIT, "add", "readme"], cwd=learner.parent, check=True)
    subprocess.run([*GIT, "commit", "-q", "-m", "mine"], cwd=learner.parent, check=True)

    _, source = reset.find_originals(learner)

    assert source == "the first start"


def test_a_workbook_in_a_folder_of_a_repository_is_reset_from_its_commit(learner):
    commit(learner.parent)
    before = tree(learner)

    originals, source = reset.find_originals(learner)

    assert source == "the last commit"
    assert originals == before


def test_line_ends_that_git_converts_are_no_change(learner):
    (learner / ".gitattributes").unlink()
    commit(learner)
    subprocess.run(["git", "config", "core.autocrlf", "true"], cwd=learner, check=True)
    data = learner / "data" / "memories.jsonl"
    data.unlink()
    subprocess.run(["git", "checkout", "-q", "--", "data"], cwd=learner, check=True)

    changed = reset.changed_files(learner, reset.find_originals(learner)[0])

    assert data.read_bytes().endswith(b"\r\n")
    assert "data/memories.jsonl" not in changed


def test_reset_without_git_and_snapshot_says_what_to_do(learner, monkeypatch, capsys):
    monkeypatch.setattr("lib.workbook.command.ROOT", learner)

    code = main(["reset", "--yes"])

    assert code == 1
    assert "Download the workbook again" in capsys.readouterr().err


def test_a_second_start_keeps_the_first_snapshot(learner):
    reset.take_snapshot(learner)
    before = tree(learner)
    work_on(learner)

    reset.take_snapshot(learner)

    assert tree(learner / ".workbook" / "pristine") == before


def test_a_folder_that_can_not_be_written_to_gets_no_snapshot_and_no_error(learner, monkeypatch):
    def read_only(**options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("lib.workbook.reset.tempfile.TemporaryDirectory", read_only)

    reset.take_snapshot(learner)

    assert not (learner / ".workbook" / "pristine").exists()


# refresh


def test_refresh_stores_outputs_and_nothing_that_differs_from_run_to_run(tmp_path):
    widget = "import ipywidgets\nipywidgets.IntSlider()"
    path = notebook(tmp_path / "in a folder" / "a.ipynb", "from pathlib import Path; Path.cwd().name", widget)
    codes, contents = [], []

    for _ in range(2):
        codes.append(main(["refresh", str(path)]))
        contents.append(path.read_bytes())

    done = nbformat.read(path, as_version=4)
    assert codes == [0, 0]
    assert contents[0] == contents[1]
    assert [cell.execution_count for cell in done.cells] == [1, 2]
    assert [cell.metadata for cell in done.cells] == [{}, {}]
    assert done.cells[0].outputs[0].data == {"text/plain": "'in a folder'"}
    assert list(done.cells[1].outputs[0].data) == ["text/plain"]
    assert done.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }


def test_refresh_sends_the_kernel_nothing_but_cells(tmp_path, monkeypatch):
    """Else a reply of the kernel may be slept over: see `lib.workbook.refresh._QuietOutput`."""
    source = "from ipywidgets import interact\ninteract(lambda x: print(x), x=(0, 10));"
    path, sent = notebook(tmp_path / "a.ipynb", *[source] * 3), []
    send = AsyncZMQSocketChannel.send
    monkeypatch.setattr(AsyncZMQSocketChannel, "send", lambda channel, msg: [sent.append(msg), send(channel, msg)])

    refresh(path)

    kinds = Counter(message["header"]["msg_type"] for message in sent)
    assert kinds["execute_request"] == 3 and kinds["comm_msg"] == 0


def test_a_cell_that_fails_leaves_the_notebook_and_is_named(tmp_path, capsys):
    path = notebook(tmp_path / "a.ipynb", "x = 1", "# why\nx / 0")
    before = path.read_bytes()

    code = main(["refresh", str(path)])

    printed = capsys.readouterr().err
    assert code == 1
    assert path.read_bytes() == before
    assert f"{path} was left as it was" in printed and "# why\nx / 0" in printed
    assert "ZeroDivisionError: division by zero" in printed
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.ipynb"]


@pytest.mark.parametrize("content", [None, "no JSON", "{}", '{"nbformat": 4, "nbformat_minor": 5, "cells": 1}'])
def test_refresh_of_what_is_no_notebook_says_so(tmp_path, capsys, content):
    path = tmp_path / "a.ipynb"
    if content is not None:
        path.write_text(content)

    code = main(["refresh", str(path)])

    assert code == 1
    assert str(path) in capsys.readouterr().err


# on-postgres


def test_on_postgres_gives_a_command_a_server_and_returns_its_code(monkeypatch, capfd):
    monkeypatch.delenv("POSTGRES_URL", raising=False)
    script = (
        "import os, sys, psycopg\n"
        "url = os.environ['POSTGRES_URL']\n"
        "with psycopg.connect(url.replace('+psycopg', '')) as connection:\n"
        "    print(connection.execute('SELECT current_user').fetchone()[0], url)\n"
        "sys.exit(7)"
    )

    code = main(["on-postgres", "python", "-c", script])

    user, url = capfd.readouterr().out.split()
    assert (code, user) == (7, "workbook")
    assert "POSTGRES_URL" not in os.environ
    with pytest.raises(DatabaseUnavailable):  # the server is gone
        connect(url)


def test_on_postgres_takes_the_programs_of_another_server(monkeypatch, capfd):
    monkeypatch.delenv("POSTGRES_URL", raising=False)
    given = str(find_binaries())

    def remember(**options):
        started.append(options)
        return start_postgres(**options)

    started = []
    monkeypatch.setattr("lib.practice.local_postgres.start_postgres", remember)

    code = main(["on-postgres", "--binaries", given, "python", "-c", "print('--binaries ran')", "--binaries", "x"])

    assert (code, started) == (0, [{"binaries": given}])
    assert "--binaries ran" in capfd.readouterr().out


def test_on_postgres_refuses_a_folder_without_a_server(tmp_path, capsys):
    code = main(["on-postgres", "--binaries", str(tmp_path), "python", "--version"])

    assert code == 1
    assert "Name the bin folder of a PostgreSQL server" in capsys.readouterr().err


def test_on_postgres_without_a_command_or_with_an_unknown_one_starts_nothing(monkeypatch, capsys):
    monkeypatch.setattr("lib.practice.local_postgres.start_postgres", lambda **_: pytest.fail("a server was started"))

    codes = [main(["on-postgres"]), main(["on-postgres", "--", "no-such-command"])]

    assert codes == [1, 127]
    assert "no-such-command" in capsys.readouterr().err


# check


def test_check_tells_of_everything_and_passes_here(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("POSTGRES_URL", "")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-key")
    monkeypatch.chdir(tmp_path)

    code = main(["check"])

    printed = capsys.readouterr().out
    assert code == 0, printed
    for what in ("Python", "packages", "kernel", "SQLite", "PostgreSQL", "chat model", "embedder"):
        assert what in printed
    assert re.search(r"started in \d+\.\d s", printed)
    assert "OPENAI_API_KEY is set" in printed
    assert "sk-secret-key" not in printed
    assert Path.cwd() == tmp_path


def test_the_practice_model_is_tried_by_the_check(monkeypatch, tmp_path):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.setenv(name, "")

    row = preflight.check_chat_model()

    assert row.status == "ok"
    assert re.search(r"practice model on this computer, answered in \d+\.\d s", row.found)


def test_an_endpoint_that_is_away_fails_the_check_and_keeps_the_password(monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://ada:hunter2@127.0.0.1:9/v1?token=hunter2")
    monkeypatch.setenv("OPENAI_MODEL", "")

    row = preflight.check_chat_model()

    assert row.status == "FAIL" and "unset OPENAI_BASE_URL" in row.remedy
    assert "hunter2" not in row.found + row.remedy


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ada:hunter2@127.0.0.1:1/db",
        "postgresql://ada:hunter2@host:not-a-port/db",
        "postgresql://ada:hunter2@/db",
        "mysql://ada:hunter2@host/db",
        "sqlite://",
        "no URL at all",
    ],
)
def test_a_server_that_can_not_be_used_fails_the_check_and_keeps_the_password(monkeypatch, url):
    monkeypatch.setenv("POSTGRES_URL", url)

    row = preflight.check_postgres()

    assert row.status == "FAIL"
    assert "POSTGRES_URL" in row.remedy
    assert "hunter2" not in row.found + row.remedy


def test_a_failure_makes_check_return_one(monkeypatch, capsys):
    failed = preflight.Report([preflight.Row("Python", "3.9.1", "FAIL", "Install a newer one.")])
    monkeypatch.setattr("lib.workbook.preflight.preflight", lambda: failed)

    code = main(["check"])

    assert code == 1
    assert re.search(r"FAIL  Python +3\.9\.1\n +Remedy: Install a newer one\.", capsys.readouterr().out)


def test_an_sqlite_without_a_part_that_the_store_needs_fails_the_check(monkeypatch):
    def without_fts5(engine):
        raise WorkbookError("no such module: fts5")

    monkeypatch.setattr("lib.database.engine.create_tables", without_fts5)

    row = preflight.check_sqlite()

    assert row.status == "FAIL" and "no such module: fts5" in row.found and "FTS5" in row.remedy


def test_no_postgresql_at_all_fails_with_a_remedy(monkeypatch):
    def none_found():
        raise ServerStartError("no PostgreSQL server was found.")

    monkeypatch.setenv("POSTGRES_URL", "")
    monkeypatch.setattr("lib.practice.local_postgres.find_binaries", none_found)

    row = preflight.check_postgres()

    assert (row.status, row.found) == ("FAIL", "no PostgreSQL server was found.")
    assert row.remedy


def test_packages_are_held_against_the_pins_that_are_meant_for_this_computer(tmp_path):
    pins = tmp_path / "requirements.txt"
    statuses = []

    for lines in (
        "sqlalchemy==2.1.9 # a comment\nno-such==1 ; sys_platform == 'nowhere'",
        "sqlalchemy==0.1",
        "no-such-package==1.0\nsqlalchemy==0.1",
    ):
        pins.write_text(lines)
        statuses.append(preflight.check_packages(pins).status)

    assert statuses == ["ok", "look", "FAIL"]


def test_a_check_that_breaks_hides_neither_the_others_nor_a_secret(monkeypatch):
    def broken():
        raise KeyError("sk-secret")

    monkeypatch.setattr(preflight, "check_packages", broken)
    monkeypatch.setattr(preflight, "check_postgres", preflight.check_embedder)

    report = preflight.preflight()

    assert len(report) == 6
    assert "could not be checked (KeyError)" in repr(report)
    assert "sk-secret" not in repr(report)
    assert not report.passed


def test_a_report_shows_as_a_table_with_its_text_escaped():
    report = preflight.Report([preflight.Row("<b>", "found", "ok")])

    html = report._repr_html_()

    assert "<table" in html and "&lt;b&gt;" in html
