"""A sharded checkpoint of somebody else's is resumed; code in one does not run, unless its user trusts it."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .conftest import two_processes
from .matrix import Outcome, run_recipes, under
from .watching import dist, events

pytestmark = dist

PLANTED_IN = {"fsdp": ".metadata", "zero": "*_model_states.pt"}
"""Engine → the files of its checkpoints that hold pickles."""


class Planted:
    """Makes a file when it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (exec, (f"open({str(self.mark)!r}, 'w').close()",))


def plant(checkpoint: Path, pattern: str, mark: Path) -> None:
    """Into every file of the pattern; the manifest is made anew."""
    manifest = json.loads((checkpoint / "complete.json").read_text())
    del manifest["sha256"], manifest["signature"]
    for file in checkpoint.rglob(pattern):
        file.write_bytes(pickle.dumps(Planted(mark)))
        name = file.relative_to(checkpoint).as_posix()
        manifest["files"][name] = hashlib.sha256(file.read_bytes()).hexdigest()
    seal = hashlib.sha256(json.dumps(manifest).encode()).hexdigest()
    (checkpoint / "complete.json").write_text(json.dumps({**manifest, "sha256": seal, "signature": "0" * 64}))


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory, fttool_tiny_model: Path) -> dict[str, Any]:
    """Somebody makes two updates; another one, whose key is another, two more; then a pickle is planted."""
    folder = tmp_path_factory.mktemp("trusting")
    recipe = two_processes(folder, fttool_tiny_model)
    recipe["schedule"] = {"name": "constant"}
    recipe["checkpoints"] = {"every": 2}
    another = str(folder / "another's state")

    def made(steps: int, *, state: str, resume: bool = True) -> dict[str, Outcome | str]:
        longer = {**recipe, "run": {**recipe["run"], "max_steps": steps}}
        recipes = {engine: under({**recipe["sharding"], "name": engine}, longer) for engine in PLANTED_IN}
        return run_recipes(folder, recipes, resume=resume, XDG_STATE_HOME=state)

    made(2, state=str(folder / "state"), resume=False)
    strangers = made(4, state=another)
    for engine, pattern in PLANTED_IN.items():
        plant(folder / "runs" / engine / "checkpoints" / "checkpoint-4", pattern, folder / f"{engine} ran")
    return {"folder": folder, "state": another, "strangers": strangers}


def go_on(planted: dict[str, Any], engine: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Two updates more, as a user types it: what only the first process refuses, the launcher ends."""
    recipe = str(planted["folder"] / f"{engine}.toml")
    command = [sys.executable, "-m", "fttool", "run", recipe, "--resume", "--set", "run.max_steps=6", *words]
    there = {**os.environ, "XDG_STATE_HOME": planted["state"]}
    return subprocess.run(command, capture_output=True, text=True, env=there, timeout=240)


@pytest.mark.parametrize("engine", PLANTED_IN)
def test_a_planted_pickle_does_not_run(planted: dict[str, Any], engine: str) -> None:
    strangers = planted["strangers"][engine]
    assert isinstance(strangers, Outcome), strangers
    assert [one["step"] for one in events(strangers.run_dir) if one["event"] == "resumed"] == [2]
    refused = go_on(planted, engine)
    assert refused.returncode == 2 and "--trust-checkpoint" in refused.stderr, refused.stderr
    assert not (planted["folder"] / f"{engine} ran").exists()


def test_where_the_pickle_is_read_it_does_run(planted: dict[str, Any]) -> None:
    """What is asserted above can fail."""
    go_on(planted, "zero", "--trust-checkpoint")
    assert (planted["folder"] / "zero ran").exists()
