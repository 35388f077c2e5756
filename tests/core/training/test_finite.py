"""Weights that are not finite are never saved, nor is a run that ends with them finished."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from fttool.errors import DivergedError, ExitCode
from fttool.testing import RunResult, run_recipe
from fttool.training.finite import not_finite

from ...scaled import ACME


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_number_among_many_is_found(dtype: torch.dtype, value: float) -> None:
    """Beside the largest that a format holds, whose squares and sums overflow; integers and nothing are left out."""
    generator = torch.Generator().manual_seed(0)
    tensors = {f"fine {n}": torch.randn(7, 5, generator=generator).to(dtype) for n in range(4)}
    tensors["largest"] = torch.full((3, 4), torch.finfo(dtype).max, dtype=dtype)
    tensors |= {"empty": torch.empty(0, dtype=dtype), "whole": torch.tensor([2**62])}
    assert not_finite(tensors.items()) == []
    for name in ("fine 1", "largest"):
        spoiled = tensors[name].clone()
        spoiled[2, 3] = value
        assert not_finite({**tensors, name: spoiled}.items()) == [name]


def poisoned(recipe: dict[str, Any], folder: Path, **poison: Any) -> RunResult:
    recipe["optimizer"] = {"name": "acme.poison", "lr": 0.01, **poison}
    recipe["checkpoints"] = {"every": 1, "keep": 9}
    return run_recipe(recipe, folder, plugins=ACME)


def assert_ended(run: RunResult, update: int, *said: str) -> None:
    """Diverged, with the checkpoints before that update and without a model."""
    assert run.exit_code == ExitCode.DIVERGED and isinstance(run.error, DivergedError)
    assert f"after update {update} '" in str(run.error) and "nothing of it is saved" in str(run.error)
    assert all(text in str(run.error) for text in said)
    assert run.summary["status"] == "diverged" and run.events[-2]["step"] == update
    assert not (run.run_dir / "model").exists() and not list(run.run_dir.glob(".model*"))
    kept = sorted(path.name for path in (run.run_dir / "checkpoints").iterdir())
    assert kept == [f"checkpoint-{step}" for step in range(1, update)]


@pytest.mark.parametrize("update", [2, 4])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_what_a_step_leaves_behind_is_looked_at_before_it_is_saved(
    tmp_path: Path, fttool_recipe: dict[str, Any], value: str, update: int
) -> None:
    run = poisoned(fttool_recipe, tmp_path, value=value, update=update)
    assert_ended(run, update, "'lm_head.weight' is not finite", "rows.jsonl:")


def test_a_run_that_saves_nothing_is_not_finished_either(tmp_path: Path, fttool_recipe: dict[str, Any]) -> None:
    from fttool.recipe.reading import load
    from fttool.runs.run import run
    from fttool.watch.screen import Screen

    poisoned(fttool_recipe, tmp_path, update=4)
    shutil.rmtree(tmp_path / "runs")
    with pytest.raises(DivergedError, match=r"after update 4 'lm_head\.weight' is not finite"):
        run(load(tmp_path / "recipe.toml", [f"run.output='{tmp_path}/runs'"], ACME), Screen(), saves=False)


def test_what_a_regularizer_makes_of_the_final_weights_is_looked_at(
    tmp_path: Path, fttool_recipe: dict[str, Any]
) -> None:
    run = run_recipe({**fttool_recipe, "regularizers": ["acme.infinite"]}, tmp_path, plugins=ACME)
    assert run.exit_code == ExitCode.DIVERGED and "and 20 more are not finite" in str(run.error)
    assert not (run.run_dir / "model").exists() and run.summary["status"] == "diverged"
