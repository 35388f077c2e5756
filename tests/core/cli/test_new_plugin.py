"""`fttool plugins new`: what it writes installs and passes its own tests at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tomli

from fttool.cli import main


def call(*words: str, folder: Path, site: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(site or "")}
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("new")
    assert main(["plugins", "new", "blue-sky", "--dir", str(folder)]) == 0
    return folder / "fttool-blue-sky"


@pytest.fixture(scope="module")
def site(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    options = ("--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--target", str(folder))
    installed = call("-m", "pip", "install", *options, str(package), folder=folder)
    assert installed.returncode == 0, installed.stderr
    return folder


def test_what_is_written(package: Path) -> None:
    files = {path.relative_to(package).as_posix() for path in package.rglob("*") if path.is_file()}
    assert files == {"pyproject.toml", "README.md", "src/fttool_blue_sky/__init__.py", "tests/test_blue_sky.py"}
    project = tomli.loads((package / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["name"] == "fttool-blue-sky"
    assert project["entry-points"]["fttool.v1"] == {"blue-sky": "fttool_blue_sky"}
    assert [path.name for path in package.parent.iterdir()] == ["fttool-blue-sky"]
    assert not any("$" in path.read_text(encoding="utf-8") for path in package.rglob("*") if path.is_file())


@pytest.mark.full
def test_it_passes_its_own_tests_once_installed(package: Path, site: Path) -> None:
    tests = call("-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", folder=package, site=site)
    assert tests.returncode == 0, tests.stdout


@pytest.mark.full
def test_its_strategy_is_listed(package: Path, site: Path) -> None:
    rows = json.loads(call("-m", "fttool", "plugins", "--json", folder=package, site=site).stdout)
    assert ("blue-sky.trapezoid", "schedule", "installed") in {(r["id"], r["family"], r["status"]) for r in rows}


@pytest.mark.full
def test_it_is_clean_under_ruff_and_pyright(package: Path) -> None:
    files = [str(path) for path in sorted(package.rglob("*.py"))]
    options = ("--isolated", "--line-length", "120", "--select", "E,F,W,I,B,UP")
    rules = call("-m", "ruff", "check", *options, *files, folder=package)
    assert rules.returncode == 0, rules.stdout
    layout = call("-m", "ruff", "format", "--isolated", "--line-length", "120", "--check", *files, folder=package)
    assert layout.returncode == 0, layout.stdout
    types = call("-m", "pyright", "--pythonpath", sys.executable, files[0], folder=package)
    assert types.returncode == 0, types.stdout


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["plugins", "new", *words]) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Acme", "'Acme' cannot be a plugin's name"),
        ("1st", "cannot be a plugin's name"),
        ("a.b", "cannot be a plugin's name"),
        ("../up", "cannot be a plugin's name"),
        ("a--b", "cannot be a plugin's name"),
        ("", "cannot be a plugin's name"),
        ("fttool-acme", "leave 'fttool-' out"),
        ("schedule", "'schedule' is reserved by fttool"),
        ("fttool", "'fttool' is reserved by fttool"),
    ],
)
def test_a_name_that_cannot_be_is_refused(
    name: str, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert expected in refusal(capsys, name, "--dir", str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_not_touched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "fttool-acme"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine", encoding="utf-8")
    assert "exists; it is not overwritten" in refusal(capsys, "acme", "--dir", str(tmp_path))
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]


def test_a_folder_that_cannot_be_written_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "file"
    file.write_text("", encoding="utf-8")
    assert "cannot write" in refusal(capsys, "acme", "--dir", str(file))


def test_a_folder_that_does_not_exist_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "new", "acme", "--dir", str(tmp_path / "a" / "b")]) == 0
    assert (tmp_path / "a" / "b" / "fttool-acme" / "pyproject.toml").is_file()
    assert "pip install -e '.[test]'" in capsys.readouterr().out
