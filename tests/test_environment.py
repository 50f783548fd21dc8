"""uv, pip and conda install the same thing, and nothing names where packages come from."""

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))


def test_conda_takes_the_same_range_of_pythons():
    python = next(spec for spec in ENVIRONMENT["dependencies"] if isinstance(spec, str) and spec.startswith("python"))

    assert python.removeprefix("python") == PROJECT["project"]["requires-python"]


def test_conda_installs_this_package_through_pip_and_nothing_else():
    strings = [spec for spec in ENVIRONMENT["dependencies"] if isinstance(spec, str)]
    (by_pip,) = (spec["pip"] for spec in ENVIRONMENT["dependencies"] if isinstance(spec, dict))

    assert [re.split(r"[<>=]", spec)[0] for spec in strings] == ["python", "pip"]
    assert by_pip == ["-e ."]


def test_dependencies_come_from_the_one_list_of_pins():
    assert PROJECT["tool"]["setuptools"]["dynamic"]["dependencies"] == {"file": ["requirements.txt"]}
    assert "dependencies" in PROJECT["project"]["dynamic"]


def test_every_direct_dependency_is_pinned_and_has_a_reason():
    pins = (ROOT / "requirements.txt").read_text(encoding="utf-8")

    for line in (ROOT / "requirements.in").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, _, reason = line.partition("#")
            assert reason.strip(), line
            assert re.search(rf"^{re.escape(name.strip().split('[')[0])}(\[.*\])?==", pins, re.MULTILINE), line


def test_every_requirement_is_an_exact_pin_and_none_has_an_address():
    for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines():
        assert "==" in line and "://" not in line and not line.startswith("-"), line
