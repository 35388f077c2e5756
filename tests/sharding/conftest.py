"""A recipe for two processes, `fttool run` started with it, and the same run undisturbed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from .matrix import base, write_rows
from .together import Together

KILLS = int(os.environ.get("FTTOOL_KILLS", 3))
"""How often `test_killing.py` kills."""
UPDATES = max(60, 10 * KILLS)
"""Of runs that are stopped on the way: between two kills there are a few."""


@pytest.fixture
def recipe(tmp_path: Path, fttool_tiny_model: Path) -> dict[str, Any]:
    return two_processes(tmp_path, fttool_tiny_model)


def two_processes(folder: Path, model: Path) -> dict[str, Any]:
    rows = [write_rows(folder / "rows.jsonl", 45), write_rows(folder / "general.jsonl", 12, first=100)]
    made = base(model, *rows)
    made["run"] |= {"output": str(folder / "runs"), "name": "r"}
    made["sharding"] = {"name": "ddp", "processes": 2, "timeout": 60}
    return made


@pytest.fixture
def started(tmp_path: Path, recipe: dict[str, Any]) -> Any:
    """Start `fttool run` with the recipe and more words; what it leaves running is killed in the end."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell makes what it runs in the background deaf to it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    running: list[subprocess.Popen[str]] = []

    def start(*words: str, **environment: str) -> subprocess.Popen[str]:
        (tmp_path / "r.toml").write_text(tomli_w.dumps(recipe))
        command = [sys.executable, "-m", "fttool", "run", str(tmp_path / "r.toml"), *words]
        pipe, environment = subprocess.PIPE, {**os.environ, **environment}
        running.append(subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


@pytest.fixture
def write_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Write a recipe to a file, in an environment without processes of a run."""
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)

    def write(recipe: dict[str, Any]) -> Path:
        (tmp_path / "r.toml").write_text(tomli_w.dumps(recipe))
        return tmp_path / "r.toml"

    return write


@pytest.fixture(scope="session")
def together(tmp_path_factory: pytest.TempPathFactory, fttool_tiny_model: Path) -> Together:
    """The short runs of all modules that are tested."""
    return Together(tmp_path_factory.mktemp("together"), fttool_tiny_model)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, fttool_tiny_model: Path) -> Path:
    """The run directory of `UPDATES` updates in two processes that nobody stopped.

    The recipe is called like an option, and a file beside it like a library, which is not to be imported.
    """
    folder = tmp_path_factory.mktemp("undisturbed")
    made = two_processes(folder, fttool_tiny_model)
    made["run"]["max_steps"] = UPDATES
    (folder / "trl.py").write_text("raise ValueError('not meant')")
    (folder / "-r.toml").write_text(tomli_w.dumps(made))
    command = [sys.executable, "-P", "-m", "fttool", "run", "./-r.toml"]  # the installed command does not look here
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder / "runs" / "r"
