"""Who starts the processes of a run, in one process: what launchers say in the environment is played."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from fttool.errors import UsageError
from fttool.launch.joining import first_host, must_launch
from fttool.recipe.loaded import Loaded
from fttool.recipe.reading import load
from fttool.testing import run_recipe


@pytest.fixture
def recipe(fttool_recipe: dict[str, Any]) -> dict[str, Any]:
    return {**fttool_recipe, "sharding": {"name": "ddp", "processes": 2}}


def loaded(tmp_path: Path, recipe: dict[str, Any]) -> Loaded:
    (tmp_path / "r.toml").write_text(tomli_w.dumps(recipe))
    return load(tmp_path / "r.toml", [])


def test_fttool_itself(tmp_path: Path, recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert must_launch(loaded(tmp_path, recipe))
    assert not must_launch(loaded(tmp_path, {**recipe, "sharding": {"name": "none"}}))


@pytest.mark.parametrize(
    ("sharding", "hint"),
    [({"name": "none"}, "let it start 1"), ({"name": "ddp", "processes": 2}, "let it start 2")],
)
def test_another_launcher_must_start_as_many(
    tmp_path: Path, recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch, sharding: Any, hint: str
) -> None:
    launched = loaded(tmp_path, {**recipe, "sharding": sharding})
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(UsageError, match="has started 4 processes") as refused:
        must_launch(launched)
    assert hint in str(refused.value)
    joined = loaded(tmp_path, {**recipe, "sharding": {"name": "ddp", "processes": 4}})
    assert not must_launch(joined)
    with pytest.raises(UsageError, match="another launcher has started this process"):
        must_launch(joined, placed=True)


def test_a_verb_that_starts_none_is_refused(tmp_path: Path, recipe: dict[str, Any]) -> None:
    refused = run_recipe(recipe, tmp_path)
    assert refused.exit_code == 2 and "is for 2 processes, and here is one of 1" in str(refused.error)


def test_srun(tmp_path: Path, recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        os,
        "environ",
        {
            "SLURM_STEP_NUM_TASKS": "2",
            "SLURM_PROCID": "1",
            "SLURM_LOCALID": "0",
            "SLURM_STEP_NODELIST": "gpu[07-08]",
            "SLURM_JOB_ID": "41234",
        },
    )
    assert must_launch(loaded(tmp_path, recipe), placed=True)  # it has started launchers
    assert not must_launch(loaded(tmp_path, recipe))
    told = {name: os.environ[name] for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")}
    assert told == {
        "RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "gpu07", "MASTER_PORT": "21234"
    }  # fmt: skip


@pytest.mark.parametrize(("tasks", "processes"), [("1", 2), ("4", 1)])
def test_srun_with_another_number_of_tasks(
    tmp_path: Path, recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tasks: str, processes: int
) -> None:
    """A single task is a shell, or this launcher; several would each make the whole run."""
    place = {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_STEP_NODELIST": "gpu07"}
    monkeypatch.setattr(os, "environ", {"SLURM_STEP_NUM_TASKS": tasks, **place})
    launched = loaded(tmp_path, {**recipe, "sharding": {"name": "ddp", "processes": processes}})
    if tasks == "1":
        assert must_launch(launched)
    else:
        with pytest.raises(UsageError, match="has started 4 processes"):
            must_launch(launched)


@pytest.mark.parametrize(
    ("hosts", "first"),
    [("one", "one"), ("a,b", "a"), ("n[3-5]", "n3"), ("n[03,07-09],m1", "n03"), ("rack1-n[10-11]", "rack1-n10")],
)
def test_the_first_host_of_a_list(hosts: str, first: str) -> None:
    assert first_host(hosts) == first
