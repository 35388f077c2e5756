"""What a log line says to the eye."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from fttool.testing import run_recipe
from fttool.watch import screen
from fttool.watch.screen import Lines, describe


def test_a_rate_of_0_says_what_it_means() -> None:
    line: dict[str, Any] = {"loss": 4.25, "lr": 0.0, "tokens_per_second": 1234.5}
    assert describe(line) == "loss 4.2500  lr 0 (no weight changes)  1,234 tokens/s"
    assert describe({**line, "lr": 2e-5}) == "loss 4.2500  lr 2.00e-05  1,234 tokens/s"
    assert describe({**line, "penalty": 0.5}).startswith("loss 4.2500  penalty 0.5  lr 0")


def test_measurements_are_told_by_what_they_are_of() -> None:
    values = {"eval_loss": 1.0, "eval_accuracy": 0.5, "retention_old_loss": 2.0}
    assert describe(values) == "evaluation  loss 1.0000  accuracy 0.5000  retention  old_loss 2.0000"


def test_the_rate_is_that_of_the_update_just_made(
    fttool_recipe: dict[str, Any], fttool_tiny_model: Path, tmp_path: Path
) -> None:
    """t/W while it climbs: 0 in the first update, after which the weights are those of before."""
    fttool_recipe["run"]["max_steps"] = 3
    fttool_recipe["optimizer"] = {"name": "adamw", "lr": 0.25, "weight_decay": 0.5}
    fttool_recipe["schedule"] = {"name": "constant", "warmup": 2}
    fttool_recipe["checkpoints"] = {"every": 1, "keep": 9}
    run = run_recipe(fttool_recipe, tmp_path)
    assert run.error is None, run.error
    assert [line["lr"] for line in run.metrics if "lr" in line] == [0.0, 0.125, 0.25]
    source = load_file(fttool_tiny_model / "model.safetensors")
    first, second = (
        load_file(run.run_dir / "checkpoints" / f"checkpoint-{step}" / "trained.safetensors") for step in (1, 2)
    )
    assert all(tensor.equal(first[name]) for name, tensor in source.items())
    assert not any(tensor.equal(second[name]) for name, tensor in source.items() if tensor.ndim > 1)


def test_a_log_says_every_ten_seconds_how_far_a_long_step_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [100.0]
    monkeypatch.setattr(screen.time, "monotonic", lambda: clock[0])
    for _ in Lines().track(range(2_500), "making tokens of rows"):
        clock[0] += 0.0078125  # 19.5 seconds in all
    assert capsys.readouterr().err.splitlines() == [
        "… making tokens of rows",
        "  1,280/2,500  making tokens of rows  left 0:10",
    ]
