"""A sharded checkpoint of somebody else's is resumed; code in one does not run, unless its user trusts it."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tomli

from .conftest import two_processes
from .matrix import Outcome, under
from .together import Made, Recipes, Together, again, first
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


@first
def recipes(folder: Path, model: Path) -> Recipes:
    """Somebody makes two updates."""
    recipe = two_processes(folder, model)
    recipe["run"]["max_steps"] = 2
    recipe["schedule"] = {"name": "constant"}
    recipe["checkpoints"] = {"every": 2}
    return {f"{one}-trusting": under({**recipe["sharding"], "name": one}, recipe) for one in PLANTED_IN}


@again
def longer(folder: Path, made: Made) -> Recipes:
    """Another one, whose key is another, goes on with two more."""
    recipes: Recipes = {}
    for name in (f"{one}-trusting" for one in PLANTED_IN):
        outcome = made[name]
        assert isinstance(outcome, Outcome), outcome
        shutil.copytree(outcome.run_dir, folder / "runs" / name)
        recipe = tomli.loads((outcome.run_dir.parents[1] / f"{name}.toml").read_text())
        recipes[name] = {**recipe, "run": {**recipe["run"], "max_steps": 4}}
    return recipes


@pytest.fixture(scope="module")
def strangers(together: Together) -> Made:
    """What the other one has made, with a pickle planted in it."""
    made = together.gone_on()
    for engine, pattern in PLANTED_IN.items():
        outcome = made[f"{engine}-trusting"]
        assert isinstance(outcome, Outcome), outcome
        plant(outcome.run_dir / "checkpoints" / "checkpoint-4", pattern, together.folder / f"{engine} ran")
    return made


def go_on(together: Together, engine: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Two updates more, as a user types it: what only the first process refuses, the launcher ends."""
    recipe = str(together.folder / "again" / f"{engine}-trusting.toml")
    command = [sys.executable, "-m", "fttool", "run", recipe, "--resume", "--set", "run.max_steps=6", *words]
    there = {**os.environ, "XDG_STATE_HOME": together.strangers_state}
    return subprocess.run(command, capture_output=True, text=True, env=there, timeout=240)


@pytest.mark.parametrize("engine", PLANTED_IN)
def test_a_planted_pickle_does_not_run(together: Together, strangers: Made, engine: str) -> None:
    made = strangers[f"{engine}-trusting"]
    assert isinstance(made, Outcome)
    assert [one["step"] for one in events(made.run_dir) if one["event"] == "resumed"] == [2]
    refused = go_on(together, engine)
    assert refused.returncode == 2 and "--trust-checkpoint" in refused.stderr, refused.stderr
    assert not (together.folder / f"{engine} ran").exists()


def test_where_the_pickle_is_read_it_does_run(together: Together, strangers: Made) -> None:
    """What is asserted above can fail."""
    assert not (together.folder / "zero ran").exists()
    go_on(together, "zero", "--trust-checkpoint")
    assert (together.folder / "zero ran").exists()
