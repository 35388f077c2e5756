"""A run of several processes decays from a checkpoint of its stable phase, in as many processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from .conftest import two_processes
from .matrix import Outcome
from .together import Recipes, Together, first
from .watching import assert_same, dist, events

pytestmark = dist


@first
def recipes(folder: Path, model: Path) -> Recipes:
    """A run of ten updates, and one of seven as its decay will be."""
    recipe = two_processes(folder, model)
    recipe["run"]["max_steps"] = 10
    recipe["sharding"]["name"] = "fsdp"
    recipe["checkpoints"] = {"every": 4, "keep": 9}
    recipe["schedule"] = {"name": "wsd", "warmup": 2, "decay": 2}
    planned = {**recipe, "run": {**recipe["run"], "max_steps": 7}, "checkpoints": {"every": 99}}
    planned["schedule"] = {**recipe["schedule"], "decay": 3}
    return {"fsdp-decaying": recipe, "fsdp-decaying-planned": planned}


def test_it_is_the_run_that_would_have_been_planned_like_that(together: Together) -> None:
    made, planned = (together.made()[name] for name in ("fsdp-decaying", "fsdp-decaying-planned"))
    assert isinstance(made, Outcome) and isinstance(planned, Outcome), (made, planned)
    runs = made.run_dir.parent
    words = [str(made.run_dir), "--from", "checkpoint-4", "--steps", "3", "--name", "decayed"]
    command = [sys.executable, "-m", "fttool", "decay", *words, "--set", "sharding.timeout=99"]
    decayed = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert decayed.returncode == 0, decayed.stderr
    assert "decayed: finished after 7 of 7 updates" in decayed.stdout
    assert_same(runs / "decayed", planned.run_dir)
    told = [one["event"] for one in events(runs / "decayed")]
    # What is noted of the rows: nothing reads the general ones.
    assert told == ["branched", "rows_noted", "proof", "checkpoint_saved", "ended"]
    words = [*words[:-1], "elsewhere", "--set", "sharding={name='ddp',processes=4,nodes=2}"]
    refused = subprocess.run([*command[:4], *words], capture_output=True, text=True, timeout=60)
    assert refused.returncode == 2 and "the run is for 2 machines" in refused.stderr
