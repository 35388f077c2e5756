"""Loss scaling (fp16) with a real scaler and 16-bit autocast on a CPU.

Every optimizer's skipped updates are noticed, and have their place on the one clock of schedule, freezing and counts.
"""

from __future__ import annotations

import math
import shutil
from functools import wraps
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from fttool.errors import DivergedError, ExitCode
from fttool.recipe.reading import load
from fttool.testing import RunResult, run_recipe
from fttool.training import trainer
from fttool.training.trainer import Loop, trainer_class
from fttool.verbs import branch
from fttool.watch.screen import Screen
from fttool.world import ALONE
from fttool_plugins.schedule.wsd import wsd

from ...runs import cut_back
from ...scaled import ACME, HalfOnCpu, with_scaler

Weights = dict[str, Tensor]
TOTAL, PEAK = 14, 1e-3
PLANTED = (2, 5, 6, 12)
"""Updates whose scaled gradients overflow, of fourteen: in the climb, in the stable phase, in the decay."""
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "adamw": {"name": "adamw"},
    "sgd": {"name": "sgd"},
    "adafactor": {"name": "adafactor"},
    "muon": {"name": "muon"},
    "plain": {"name": "acme.plain"},
    "third-party-fused": {"name": "acme.plain", "fused": True},
}


class Scaled:
    """A recipe with loss scaling on a CPU, and the weights after each of its updates, from the start on."""

    def __init__(self, recipe: dict[str, Any], folder: Path) -> None:
        self.recipe, self.folder = recipe, folder
        self.weights: list[Weights] = []
        self.trainer: Any = None

    def run(self, planted: tuple[int, ...] = PLANTED, *others: Any, resume: bool = False, **changes: Any) -> RunResult:
        """Run it with overflows planted in these updates."""
        self.weights.clear()
        self.recipe |= changes
        overflow = {"name": "acme.overflow", "updates": list(planted), "endless": len(planted) >= TOTAL}
        self.recipe["regularizers"] = [overflow, *others]
        return run_recipe(self.recipe, self.folder, plugins=ACME, resume=resume)

    def see(self) -> None:
        self.weights.append({name: p.detach().clone() for name, p in self.trainer.model.named_parameters()})

    def changed(self, update: int) -> set[str]:
        """Names of the weights that an update, from 1, has changed."""
        before, after = self.weights[update - 1 : update + 1]
        return {name for name, values in after.items() if not torch.equal(values, before[name])}


@pytest.fixture
def scaled(fttool_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scaled:
    made = Scaled(fttool_recipe, tmp_path)
    create, begin, step = with_scaler(), Loop.get_batch_samples, Screen.step

    @wraps(create)
    def created(self: Any) -> None:
        made.trainer = self
        create(self)

    @wraps(begin)
    def begun(self: Any, *args: Any) -> Any:
        if not made.weights:
            made.see()
        return begin(self, *args)

    def stepped(self: Any, done: int) -> None:
        made.see()
        step(self, done)

    monkeypatch.setattr(Loop, "create_accelerator_and_postprocess", created)
    monkeypatch.setattr(Loop, "get_batch_samples", begun)
    monkeypatch.setattr(Screen, "step", stepped)
    fttool_recipe |= {
        "run": {"max_steps": TOTAL, "micro_batch": 2, "log_every": 1},
        "precision": {"name": "acme.half"},
        "optimizer": {"name": "adamw", "lr": PEAK},
        "schedule": {"name": "wsd", "warmup": 3, "decay": 4},
    }
    return made


def rates(run: RunResult) -> list[float]:
    return [line["lr"] for line in run.metrics if "loss" in line]


def planned_rates(total: int = TOTAL) -> list[float]:
    """Of an update's number alone, whatever was skipped."""
    return [PEAK * wsd(update, warmup=3, decay=4, total=total, floor=0, shape="1-sqrt") for update in range(total)]


# -- every optimizer -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pulled", [False, True], ids=["alone", "pulled"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_skipped_updates_are_noticed_and_take_their_time(scaled: Scaled, optimizer: str, pulled: bool) -> None:
    pull = [{"name": "l2-init", "strength": 0.1}] if pulled else []
    run = scaled.run(PLANTED, *pull, optimizer={**OPTIMIZERS[optimizer], "lr": PEAK})
    assert run.error is None and run.summary["status"] == "finished"
    still = {update for update in range(1, TOTAL + 1) if not scaled.changed(update)}
    assert still == {1, *PLANTED}  # the first has the rate 0 with which the climb begins
    assert run.summary["skipped_updates"] == len(PLANTED)
    assert [line["skipped_updates"] for line in run.metrics if "loss" in line] == [
        sum(planted <= update for planted in PLANTED) for update in range(1, TOTAL + 1)
    ]
    assert rates(run) == pytest.approx(planned_rates())
    assert scaled.trainer.accelerator.scaler.get_scale() == HalfOnCpu.scale / 2 ** len(PLANTED)
    made = {int(state["step"]) for state in scaled.trainer.optimizer.state.values() if "step" in state}
    assert made <= {TOTAL - len(PLANTED)}


def test_fused_and_plain_and_third_party_steps_have_the_same_numbers(scaled: Scaled) -> None:
    finals: list[Weights] = []
    for name in ("plain", "adamw", "third-party-fused"):
        scaled.run(optimizer={**OPTIMIZERS[name], "lr": PEAK})
        finals.append(scaled.weights[-1])
        shutil.rmtree(scaled.folder / "runs")
    for other in finals[1:]:
        for name, values in finals[0].items():
            torch.testing.assert_close(other[name], values, rtol=0, atol=1e-6)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_forty_of_forty_overflows_do_not_end_well(scaled: Scaled, optimizer: str) -> None:
    scaled.recipe["run"]["max_steps"] = 40
    run = scaled.run(tuple(range(1, 41)), optimizer={**OPTIMIZERS[optimizer], "lr": PEAK})
    assert run.exit_code == ExitCode.DIVERGED and isinstance(run.error, DivergedError)
    assert "loss scaling skipped 20 updates in a row" in str(run.error) and "rows.jsonl:" in str(run.error)
    assert run.summary["status"] == "diverged" and run.summary["skipped_updates"] == 20
    assert not (run.run_dir / "model").exists()


def test_a_scale_that_is_far_too_large_overflows_by_itself(scaled: Scaled, monkeypatch: pytest.MonkeyPatch) -> None:
    """No planted loss: gradients of 16 bits end at 65,504."""
    monkeypatch.setattr(HalfOnCpu, "scale", 2.0**30)
    run = scaled.run(())
    skipped = run.summary["skipped_updates"]
    assert run.error is None and 0 < skipped < TOTAL
    assert {update for update in range(1, TOTAL + 1) if not scaled.changed(update)} == {1, *range(1, skipped + 1)}


def test_a_short_run_of_skipped_updates_alone_does_not_end_well(scaled: Scaled) -> None:
    run = scaled.run(tuple(range(1, TOTAL + 1)))
    assert run.exit_code == ExitCode.DIVERGED
    assert f"loss scaling skipped all {TOTAL} updates: nothing was learned" in str(run.error)
    assert not (run.run_dir / "model").exists() and run.summary["status"] == "diverged"


def test_an_overflow_that_nobody_skips_ends_the_run(scaled: Scaled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "let_the_scaler_decide", lambda optimizer: None)
    run = scaled.run((4,))
    assert run.exit_code == ExitCode.DIVERGED
    assert "the gradient of update 4 is not finite, and the optimizer made a step of it" in str(run.error)


# -- one clock -------------------------------------------------------------------------------------------------------


def test_the_average_leaves_skipped_updates_out(scaled: Scaled) -> None:
    run = scaled.run(PLANTED, {"name": "ema", "decay": 0.8, "warmup": False})
    taken = [weights for update, weights in enumerate(scaled.weights[1:], start=1) if update not in PLANTED]
    mean = {name: values.double() for name, values in taken[0].items()}
    for weights in taken[1:]:
        mean = {name: 0.8 * mean[name] + 0.2 * values.double() for name, values in weights.items()}
    for name, values in load_file(run.run_dir / "model" / "model.safetensors").items():
        torch.testing.assert_close(values.double(), mean[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize("pulled", [False, True], ids=["alone", "pulled"])
def test_layers_join_when_their_update_comes(scaled: Scaled, pulled: bool) -> None:
    """The update in which the first layer joins overflows, and so do others: nothing is late for that."""
    pull = [{"name": "l2-init", "strength": 0.1}] if pulled else []
    run = scaled.run((1, 5, 6, 10), *pull, freezing={"name": "gradual", "every": 4}, schedule="constant")
    assert run.error is None
    parts = {"lm_head": 1, "layers.1.": 5, "layers.0.": 9, "embed_tokens": 13}
    for update in range(1, TOTAL + 1):
        joined = {part for part, first in parts.items() if update >= first and update not in (1, 5, 6, 10)}
        moved = scaled.changed(update)
        assert {part for part in parts if any(part in name for name in moved)} == joined, update


@pytest.mark.full
@pytest.mark.parametrize("step", [2, 5, 6, 9])
def test_a_resumed_run_is_bitwise_equal(scaled: Scaled, step: int, tmp_path: Path) -> None:
    """From a checkpoint after a skipped update too."""
    pull = {"name": "l2-init", "strength": 0.1}
    whole = scaled.run(PLANTED, pull, checkpoints={"every": 1, "keep": 20})
    last, scale = scaled.weights[-1], scaled.trainer.accelerator.scaler.get_scale()
    scaled.folder = tmp_path / "moved"
    scaled.folder.mkdir()
    cut_back(whole, scaled.folder / "runs" / "recipe", step)
    resumed = scaled.run(PLANTED, pull, resume=True)
    assert resumed.error is None and scaled.trainer.accelerator.scaler.get_scale() == scale
    assert all(torch.equal(values, last[name]) for name, values in scaled.weights[-1].items())
    assert rates(resumed) == rates(whole) == pytest.approx(planned_rates())
    assert resumed.summary["skipped_updates"] == len(PLANTED)


def test_a_decay_that_branches_off_behind_skipped_updates_is_the_run_that_was_planned_so(scaled: Scaled) -> None:
    skipped = (1, 2, 3, 6)
    run = scaled.run(skipped, checkpoints={"every": 1, "keep": 20})
    schedule = {"name": "wsd", "warmup": 3, "decay": 4}
    overrides = {"run.name": "decayed", "run.max_steps": 11, "schedule": schedule}
    loaded = load(run.run_dir / "recipe.resolved.toml", plugins=ACME)
    assert branch(loaded, 7, overrides, quiet=True) == 0
    decayed = RunResult(exit_code=ExitCode.OK, run_dir=run.run_dir.parent / "decayed", error=None)
    assert rates(decayed) == pytest.approx(planned_rates(11))
    last = scaled.weights[-1]
    scaled.recipe["run"] |= {"max_steps": 11, "name": "planned"}
    planned = scaled.run(skipped)
    assert rates(planned) == rates(decayed) and scaled.changed(11)
    assert all(torch.equal(values, last[name]) for name, values in scaled.weights[-1].items())


# -- what needs no run -----------------------------------------------------------------------------------------------


def looping(*, fp16: bool) -> Any:
    """As much of a trainer as looks at an update's gradient; DeepSpeed scales by itself, so there is no scaler."""

    def diverged(what: str, rows: Any, update: int) -> None:
        raise DivergedError(what)

    return SimpleNamespace(
        losses=[(torch.tensor(1.0), [0])],
        state=SimpleNamespace(global_step=0),
        job=SimpleNamespace(asked=None, world=ALONE),
        args=SimpleNamespace(device=torch.device("cpu"), fp16=fp16),
        accelerator=SimpleNamespace(scaler=None),
        diverged=diverged,
    )


def test_a_gradient_that_overflows_is_skipped_and_not_diverged() -> None:
    Loop._refuse_non_finite(looping(fp16=True), math.inf)
    with pytest.raises(DivergedError, match="the gradient of update 1 is not finite"):
        Loop._refuse_non_finite(looping(fp16=False), math.inf)


def test_a_resumed_optimizer_finds_a_scale() -> None:
    """torch makes the state of FSDP's optimizer by a step, before transformers has loaded the scaler."""
    scales: list[float] = []

    class Base:
        accelerator = SimpleNamespace(scaler=torch.amp.GradScaler("cpu", init_scale=8.0))
        args = SimpleNamespace(device=torch.device("cpu"))
        optimizer = SimpleNamespace(param_groups=[])
        lr_scheduler = SimpleNamespace(last_epoch=3, base_lrs=[])
        job = SimpleNamespace(update=SimpleNamespace(factor=lambda step: 1.0))

        def _load_optimizer_and_scheduler(self, checkpoint: str) -> None:
            parameter = torch.nn.Parameter(torch.ones(1))
            parameter.grad = torch.zeros(1)
            self.accelerator.scaler.step(torch.optim.SGD([parameter]))
            scales.append(self.accelerator.scaler.get_scale())

    made: Any = trainer_class(Base)  # type: ignore[arg-type]
    made._load_optimizer_and_scheduler(object.__new__(made), "checkpoint-3")
    assert scales == [8.0]
