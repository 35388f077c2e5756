"""What tests of runs share: a model with dropout, what a run leaves behind, one that was killed, what verbs print."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from fttool.cli import main
from fttool.testing import RunResult, run_recipe


def with_dropout(source: Path, folder: Path) -> Path:
    """A copy of a model's folder whose attention drops out, so that a run depends on the state of chance."""
    shutil.copytree(source, folder)
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "attention_dropout": 0.2}))
    return folder


def weights(run: RunResult) -> dict[str, Tensor]:
    """The model that a run which went well has saved."""
    assert run.error is None, run.error
    return load_file(run.run_dir / "model" / "model.safetensors")


def losses(run: RunResult) -> list[float]:
    """The loss of each update that was logged, of a run which went well."""
    assert run.error is None, run.error
    return [line["loss"] for line in run.metrics if "loss" in line]


def timeless(values: Any) -> Any:
    """What was logged or summed up, without what a clock or the memory said."""
    if isinstance(values, list):
        return [timeless(value) for value in values]
    if not isinstance(values, dict):
        return values
    measured = ("tokens_per_second", "seconds", "peak_memory_bytes", "forecasts")
    return {key: timeless(value) for key, value in values.items() if key not in measured}


def assert_same_state(checkpoint: Path, other: Path) -> None:
    """Two checkpoints have the same optimizer state, bit for bit."""
    states = [torch.load(folder / "optimizer.pt")["state"] for folder in (checkpoint, other)]
    flat = [[value for entry in state.values() for value in entry.values()] for state in states]
    assert flat[0] and all(torch.equal(torch.as_tensor(a), torch.as_tensor(b)) for a, b in zip(*flat, strict=True))


def cut_back(run: RunResult, folder: Path, step: int) -> None:
    """The run directory as a crash after the checkpoint of `step`, within a line of the log, would have left it."""
    shutil.copytree(run.run_dir, folder)
    for path in (folder / "checkpoints").iterdir():
        if int(path.name.removeprefix("checkpoint-")) > step:
            shutil.rmtree(path)
    shutil.rmtree(folder / "model")
    (folder / "summary.json").unlink()
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 99, "lo')


def resumed_from(run: RunResult, recipe: dict[str, Any], folder: Path, step: int) -> RunResult:
    """The run as it ends when it is killed after the checkpoint of `step` and resumed in another folder.

    The model that it began with lies in `model`, beside its recipe.
    """
    folder.mkdir()
    shutil.copytree(run.run_dir.parents[1] / "model", folder / "model")
    cut_back(run, folder / "runs" / run.run_dir.name, step)
    resumed = run_recipe(recipe, folder, resume=True)
    assert resumed.error is None, resumed.error
    return resumed


def assert_same_weights(run: RunResult, other: RunResult) -> None:
    """Two runs have saved the same model, bit for bit."""
    ours, theirs = weights(run), weights(other)
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


def as_json(captured: pytest.CaptureFixture[str], *words: object) -> list[dict[str, Any]]:
    """What a verb that goes well prints with `--json`, line by line."""
    captured.readouterr()
    assert main([*map(str, words), "--json"]) == 0
    return [json.loads(line) for line in captured.readouterr().out.splitlines()]
