"""Settings: from the environment, else from a .env file, which is read again only when it has changed."""

import os
from collections.abc import Iterator
from pathlib import Path

import dotenv
import pytest

from lib.config import setting


@pytest.fixture
def reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The files that were read; the working folder is an empty one."""
    paths: list[str] = []
    read = dotenv.dotenv_values
    monkeypatch.setattr(dotenv, "dotenv_values", lambda path: paths.append(str(path)) or read(path))
    monkeypatch.delenv("WORKBOOK_COLOUR", raising=False)
    monkeypatch.chdir(tmp_path)
    yield paths


def test_an_env_file_is_read_once_however_often_it_is_asked(reads: list[str]) -> None:
    Path(".env").write_text("WORKBOOK_COLOUR=red\nWORKBOOK_EMPTY=\n")

    answers = [setting(name) for name in ("WORKBOOK_COLOUR", "WORKBOOK_EMPTY", "WORKBOOK_NONE") * 5]

    assert answers == ["red", None, None] * 5
    assert len(reads) == 1


@pytest.mark.parametrize("text", ["WORKBOOK_COLOUR=tan", "WORKBOOK_COLOUR=turquoise", ""])
def test_an_env_file_that_was_changed_is_read_again(reads: list[str], text: str) -> None:
    file = Path(".env")
    file.write_text("WORKBOOK_COLOUR=red")
    assert setting("WORKBOOK_COLOUR") == "red"

    file.write_text(text)
    os.utime(file, ns=(1, file.stat().st_mtime_ns + 1))

    assert (setting("WORKBOOK_COLOUR") or "") == text.partition("=")[2]


def test_another_folder_has_its_own_file_and_a_deleted_one_is_forgotten(
    reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("below").mkdir()
    Path(".env").write_text("WORKBOOK_COLOUR=red")
    Path("below/.env").write_text("WORKBOOK_COLOUR=tan")
    assert setting("WORKBOOK_COLOUR") == "red"

    monkeypatch.chdir("below")
    assert setting("WORKBOOK_COLOUR") == "tan"
    Path(".env").unlink()
    assert setting("WORKBOOK_COLOUR") == "red"  # of the folder above


def test_the_environment_goes_first_also_when_it_is_empty(reads: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("WORKBOOK_COLOUR=red")

    for given, expected in (("blue", "blue"), ("  ", None)):
        monkeypatch.setenv("WORKBOOK_COLOUR", given)
        assert setting("WORKBOOK_COLOUR") == expected
    assert reads == []
