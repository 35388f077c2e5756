"""Runs in which layers unfreeze, rest and learn at rates of their own: against a twin, and stopped in the middle."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tomli_w import dumps
from torch import Tensor
from transformers import AutoModelForCausalLM

from fttool.cli import main
from fttool.recipe.reading import load
from fttool.rundir.record import Record
from fttool.runs.preparing import prepare_run
from fttool.runs.stages.loop import Prepared
from fttool.testing import run_recipe
from fttool.watch.screen import Screen
from fttool.watch.watch import Watch

from ...runs import assert_same_state, assert_same_weights, resumed_from, weights, with_dropout
from .contexts import EMBEDDINGS, HEAD, NORM

LR, DECAY, PULL, CLIP, WARMUP, FALL, UPDATES = 5e-3, 0.5, 0.05, 0.1, 2, 3, 8
EVERYTHING: dict[str, Any] = {
    "run": {"max_steps": UPDATES, "micro_batch": 2, "global_batch": 4, "log_every": 1, "seed": 3},
    "freezing": {"name": "gradual", "every": 2},
    "layer_rates": {"name": "discriminative", "decay": DECAY},
    "optimizer": {"name": "adamw", "lr": LR, "weight_decay": 0.1, "max_grad_norm": CLIP},
    "schedule": {"name": "wsd", "warmup": WARMUP, "decay": FALL, "shape": "linear", "min_lr": 0.1 * LR},
    "regularizers": [{"name": "l2-init", "strength": PULL}],
    "checkpoints": {"every": 1, "keep": 99},
}
"""FreezingPlan, rates by layer, weight decay, a pull and a floor, over accumulated updates."""


@pytest.fixture
def recipe(fttool_recipe: dict[str, Any]) -> dict[str, Any]:
    return {**fttool_recipe, **EVERYTHING}


def prepared(recipe: dict[str, Any], folder: Path, screen: Screen | None = None) -> Prepared:
    file = folder / "recipe.toml"
    file.write_text(dumps(recipe))
    loaded = load(file, [f"run.output='{folder}'"])
    return prepare_run(loaded, folder, Watch(loaded, Record(folder), screen or Screen()))


def part(name: str) -> int:
    """How far from the head: 0 for it and the norm, 1 and 2 for the layers, 3 for the embeddings."""
    return {HEAD: 0, NORM: 0, EMBEDDINGS: 3}.get(name) or (2 - int(name.split(".")[2]) if ".layers." in name else 0)


# -- what is computed ----------------------------------------------------------------------------------------------


def schedule(update: int) -> float:
    """wsd by hand: 2 updates up, 3 updates down to a tenth."""
    if update < WARMUP:
        return update / WARMUP
    down = max(0, update - (UPDATES - FALL)) / FALL
    return (1 - down) * 0.9 + 0.1


def twin(recipe: dict[str, Any], folder: Path) -> dict[str, Tensor]:
    """The same run as one plain loop that freezes nothing: it takes all gradients, and drops those of what waits.

    AdamW written out, with a step count per parameter, in float64 but for the model's own passes.
    """
    job = prepared(recipe, folder).trainer.job
    model: Any = AutoModelForCausalLM.from_pretrained(recipe["model"]["source"])
    model.train()
    named = dict(model.named_parameters())
    start = {name: p.detach().double() for name, p in named.items()}
    value = dict(start)
    first, second = ({name: torch.zeros_like(p) for name, p in start.items()} for _ in range(2))
    batches = list(job.batching.loader)
    assert len(batches) == 12  # 24 rows by two: the second epoch begins in the middle of the run
    job.batching.loader.set_epoch(1)
    batches += list(job.batching.loader)
    for update in range(UPDATES):
        micro_batches = batches[2 * update : 2 * update + 2]
        labels = sum(int(batch["labels"].ne(-100).sum()) for batch in micro_batches)
        model.zero_grad()
        for batch in micro_batches:
            (job.score(model, {k: v for k, v in batch.items() if k != "rows"}).losses_N.sum() / labels).backward()
        unfrozen = [name for name in named if update >= 2 * part(name)]
        gradients = {name: named[name].grad.double() for name in unfrozen}
        norm = math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients.values()))
        for name, gradient in gradients.items():
            gradient = gradient * min(1.0, CLIP / (norm + 1e-6)) + 2 * PULL * (value[name] - start[name])
            rate = LR * schedule(update) * DECAY ** max(0, part(name) - 1)
            count = update - 2 * part(name) + 1
            first[name] = 0.9 * first[name] + 0.1 * gradient
            second[name] = 0.999 * second[name] + 0.001 * gradient**2
            step = (first[name] / (1 - 0.9**count)) / ((second[name] / (1 - 0.999**count)).sqrt() + 1e-8)
            shrunk = value[name] * (1 - rate * 0.1 * (value[name].ndim > 1))
            value[name] = shrunk - rate * step
            named[name].data.copy_(value[name])
    return value


def test_gradual_rates_by_layer_pull_and_schedule_together_match_a_naive_twin(
    tmp_path: Path, recipe: dict[str, Any]
) -> None:
    run = run_recipe(recipe, tmp_path)
    assert run.error is None
    norms = [line["grad_norm"] for line in run.metrics if "loss" in line]
    assert min(norms) > CLIP  # of what trains; so it matters that nothing else counts
    (tmp_path / "twin").mkdir()
    found, expected = weights(run), twin(recipe, tmp_path / "twin")
    before = load_file(Path(recipe["model"]["source"]) / "model.safetensors")
    for name, value in expected.items():
        moved = float((value - before[name]).abs().max())
        assert moved > 1e-4, name
        torch.testing.assert_close(found[name].double(), value, rtol=0, atol=1e-6, msg=name)


def test_each_group_ends_at_its_share_of_the_floor(tmp_path: Path, recipe: dict[str, Any]) -> None:
    run = run_recipe(recipe, tmp_path)
    state = torch.load(run.run_dir / "checkpoints" / f"checkpoint-{UPDATES}" / "optimizer.pt")
    rates = {group["lr"] for group in state["param_groups"]}
    assert sorted(rates) == pytest.approx([0.1 * LR * DECAY**2, 0.1 * LR * DECAY, 0.1 * LR])
    logged = [line["lr"] for line in run.metrics if "lr" in line]
    assert logged == pytest.approx([LR * schedule(update) for update in range(UPDATES)])  # of the highest group


@pytest.mark.parametrize("freezing", [{"name": "top-layers", "n": 1}, {"name": "lisa", "n": 1, "every": 3}])
def test_recomputed_activations_change_nothing(
    tmp_path: Path, recipe: dict[str, Any], freezing: dict[str, Any]
) -> None:
    """Checkpointing must not lose the gradients of a layer whose input needs none."""
    recipe["freezing"] = freezing
    plain = run_recipe(recipe, tmp_path)
    other = run_recipe(recipe, tmp_path, overrides=["model.gradient_checkpointing=true", "run.name=other"])
    assert plain.error is None
    for name, tensor in weights(plain).items():
        torch.testing.assert_close(weights(other)[name], tensor, rtol=0, atol=1e-6, msg=name)


# -- what stays ----------------------------------------------------------------------------------------------------


def test_what_never_unfreezes_keeps_its_bits_and_has_no_state(tmp_path: Path, recipe: dict[str, Any]) -> None:
    recipe["freezing"] = {"name": "top-layers", "n": 1}
    run = run_recipe(recipe, tmp_path)
    before, after = load_file(Path(recipe["model"]["source"]) / "model.safetensors"), weights(run)
    trained = {name for name in before if part(name) < 2}
    assert {name for name in before if not torch.equal(before[name], after[name])} == trained
    assert run.summary["trained_parameters"] == sum(before[name].numel() for name in trained)
    state = torch.load(run.run_dir / "checkpoints" / f"checkpoint-{UPDATES}" / "optimizer.pt")
    assert len(state["state"]) == len(trained)


def test_a_run_too_short_to_unfreeze_all_says_so(
    tmp_path: Path, recipe: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    recipe["freezing"] = {"name": "gradual", "every": 5}
    del recipe["regularizers"]  # an anchor would be state too
    file = tmp_path / "recipe.toml"
    file.write_text(dumps(recipe))
    assert main(["run", str(file), "--set", f"run.output={tmp_path / 'runs'}"]) == 0
    run_dir = tmp_path / "runs" / "recipe"
    before, after = (load_file(p / "model.safetensors") for p in (Path(recipe["model"]["source"]), run_dir / "model"))
    idle = {name for name in before if part(name) > 1}
    assert {name for name in before if torch.equal(before[name], after[name])} == idle
    counts = {name: tensor.numel() for name, tensor in before.items()}
    numbers, total = sum(counts[name] for name in idle), sum(counts.values())
    said = (
        f"freezing 'gradual': {numbers:,} of {total:,} parameters are never trained in 8 updates, and stay as they are"
    )
    assert said in capsys.readouterr().err
    summary = json.loads((run_dir / "summary.json").read_text())
    assert summary["trained_parameters"] == total - numbers
    state = torch.load(run_dir / "checkpoints" / f"checkpoint-{UPDATES}" / "optimizer.pt")
    assert len(state["state"]) == len(before) - len(idle)


def test_a_new_head_that_never_trains_is_said(tmp_path: Path, fttool_tiny_model: Path) -> None:
    rows = [{"text": f"the number {number}", "label": ("even", "odd")[number % 2]} for number in range(12)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    recipe = {
        "recipe": 1,
        "task": "classification",
        "run": {"max_steps": 2},
        "model": {"source": str(fttool_tiny_model)},
        "data": {"train": [{"path": "rows.jsonl"}]},
    }
    said = "score.weight: randomly initialised, as the model's files lack it, and never trained"
    for train, expected in (("*.mlp.*", [said]), ("score.*", [])):
        notes: list[str] = []
        prepared({**recipe, "freezing": {"name": "patterns", "train": [train]}}, tmp_path, Noting(notes))
        assert [note for note in notes if "never trained" in note] == expected


class Noting(Screen):
    """Keeps the notes."""

    def __init__(self, notes: list[str]) -> None:
        self.notes = notes

    def note(self, text: str, hint: str = "") -> None:
        self.notes.append(text)


# -- resume --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "freezing",
    [
        {"name": "gradual", "every": 2},
        {"name": "gradual", "every": 0.3, "order": "bottom-up", "embeddings": "last"},
        {"name": "lisa", "n": 1, "every": 2},
    ],
    ids=lambda options: "-".join(str(value) for value in options.values()),
)
@pytest.mark.parametrize("step", [3, 4])
def test_a_run_stopped_in_the_middle_goes_on_bitwise(
    tmp_path: Path, recipe: dict[str, Any], freezing: dict[str, Any], step: int
) -> None:
    """Within a stage and at the border of two; with accumulation, dropout, moments and anchors."""
    with_dropout(Path(recipe["model"]["source"]), tmp_path / "model")
    recipe |= {"freezing": freezing, "model": {"source": "model"}}
    whole = run_recipe(recipe, tmp_path)
    assert whole.error is None
    resumed = resumed_from(whole, recipe, tmp_path / "moved", step)
    assert_same_weights(whole, resumed)
    assert_same_state(*(run.run_dir / "checkpoints" / "checkpoint-8" for run in (whole, resumed)))


def test_a_run_can_be_made_longer_where_stages_are_updates(tmp_path: Path, recipe: dict[str, Any]) -> None:
    """The layers that the shorter run did not reach unfreeze in the longer one."""
    recipe |= {"schedule": "constant", "freezing": {"name": "gradual", "every": 3}}
    recipe["run"] = {**recipe["run"], "max_steps": 5}
    run_recipe(recipe, tmp_path)
    resumed = run_recipe(recipe, tmp_path, resume=True, overrides=["run.max_steps=11"])
    assert resumed.error is None
    (tmp_path / "whole").mkdir()
    whole = run_recipe(recipe, tmp_path / "whole", overrides=["run.max_steps=11"])
    assert_same_weights(whole, resumed)


@pytest.mark.parametrize("freezing", [{"name": "gradual", "every": 0.3}, {"name": "lisa", "n": 1, "every": 2}])
def test_a_run_is_not_made_longer_where_that_changes_what_trained(
    tmp_path: Path, recipe: dict[str, Any], freezing: dict[str, Any]
) -> None:
    recipe |= {"schedule": "constant", "freezing": freezing}
    run_recipe(recipe, tmp_path)
    refused = run_recipe(recipe, tmp_path, resume=True, overrides=["run.max_steps=11"])
    assert refused.exit_code == 2
    assert f"what freezing '{freezing['name']}' trains depends on the run's length" in str(refused.error)
