"""All regularizers in one run: it resumes bit for bit, with accumulation and weights that unfreeze later."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
import torch
from safetensors.torch import load_file

from fttool.api import Freezing, FreezingContext, FreezingPlan, TrainableUnit, from_update, hookimpl
from fttool.testing import plugins, run_recipe

from ...runs import assert_same_weights, cut_back, weights


class SecondLater(Freezing):
    """The second layer unfreezes at update 3."""

    name: Literal["acme.second-later"] = "acme.second-later"

    def build(self, ctx: FreezingContext) -> FreezingPlan:
        """Yield two units."""
        second = frozenset(ctx.layers.blocks[1])
        names = frozenset(name for name, _ in ctx.model.named_parameters())
        return FreezingPlan(
            units=[TrainableUnit(parameters=names - second), TrainableUnit(parameters=second, trains_in=from_update(3))]
        )


ACME = plugins(acme=SimpleNamespace(fttool_strategies=hookimpl(lambda: [SecondLater], specname="fttool_strategies")))


@pytest.fixture
def recipe(fttool_recipe: dict[str, Any], fttool_rows: Path) -> dict[str, Any]:
    fttool_recipe["run"] = {"max_steps": 8, "micro_batch": 2, "global_batch": 4, "log_every": 1, "seed": 3}
    fttool_recipe["data"]["general"] = [{"path": str(fttool_rows), "name": "old"}]
    fttool_recipe["data"]["eval_share"] = 0.1
    fttool_recipe["optimizer"] = {"name": "adamw", "lr": 5e-3}
    fttool_recipe["evaluation"] = {"samples": 0, "every": 3}
    fttool_recipe["checkpoints"] = {"every": 2, "keep": 9}
    fttool_recipe["regularizers"] = [
        {"name": "l2-init", "strength": 0.02},
        {"name": "l2-sp", "alpha": 0.1, "decoupled": True},
        {"name": "ewc", "strength": 20, "examples": 5},
        {"name": "mixout", "p": 0.5},
        {"name": "ema", "decay": 0.7, "start": 3},
        {"name": "wise-ft", "alpha": 0.8},
    ]
    return fttool_recipe


@pytest.mark.full
@pytest.mark.parametrize("freezing", ["full", "acme.second-later"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_resumed_run_is_bitwise_equal(
    tmp_path: Path, recipe: dict[str, Any], freezing: str, checkpointing: bool
) -> None:
    recipe["freezing"] = freezing
    recipe["model"]["gradient_checkpointing"] = checkpointing
    whole = run_recipe(recipe, tmp_path, plugins=ACME)
    expected = weights(whole)
    for step in (2, 4):
        folder = tmp_path / f"resumed-{step}"
        folder.mkdir()
        cut_back(whole, folder / "runs" / "recipe", step)
        (folder / "runs" / "recipe" / "importance.safetensors").unlink()  # a resumed run has F in its optimizer
        resumed = run_recipe(recipe, folder, plugins=ACME, resume=True)
        assert all(torch.equal(tensor, weights(resumed)[name]) for name, tensor in expected.items())
        assert not (resumed.run_dir / "importance.safetensors").exists()
        lines = [[line for line in run.metrics if line["step"] > step] for run in (whole, resumed)]
        for one, two in zip(*lines, strict=True):
            timeless = [{k: v for k, v in line.items() if k != "tokens_per_second"} for line in (one, two)]
            assert timeless[0] == timeless[1]


def test_each_of_them_matters_to_that_run(tmp_path: Path, recipe: dict[str, Any]) -> None:
    """Else the test above would not notice if one of them did nothing after resuming."""
    whole = weights(run_recipe(recipe, tmp_path))
    for table in recipe["regularizers"]:
        others = [one for one in recipe["regularizers"] if one is not table]
        without = weights(
            run_recipe({**recipe, "regularizers": others}, tmp_path, overrides=[f"run.name={table['name']}"])
        )
        assert not all(torch.equal(tensor, without[name]) for name, tensor in whole.items()), table


def test_a_crash_before_the_first_checkpoint_weighs_again(tmp_path: Path, recipe: dict[str, Any]) -> None:
    whole = run_recipe(recipe, tmp_path)
    folder = tmp_path / "again"
    folder.mkdir()
    cut_back(whole, folder / "runs" / "recipe", 0)
    (folder / "runs" / "recipe" / "importance.safetensors").write_bytes(b"half")
    resumed = run_recipe(recipe, folder, resume=True)
    assert_same_weights(whole, resumed)
    load_file(resumed.run_dir / "importance.safetensors")


def test_a_dry_run_shows_the_pulls_and_weighs_nothing(
    tmp_path: Path, recipe: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    from tomli_w import dumps

    from fttool.cli import main

    (tmp_path / "r.toml").write_text(dumps({**recipe, "run": {**recipe["run"], "output": str(tmp_path / "runs")}}))
    assert main(["run", str(tmp_path / "r.toml"), "--dry-run", "--json"]) == 0
    groups = json.loads(capsys.readouterr().out.splitlines()[-1])["summary"]["parameters"]["groups"]
    assert all(group["importance"] and group["pull"] == 0.04 and group["decoupled_pull"] == 0.1 for group in groups)
    assert not list(tmp_path.rglob("importance*"))
