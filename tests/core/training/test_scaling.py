"""Loss scaling (fp16), as far as it can be tried without a GPU: what the loop makes of overflows and a resumed run."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fttool.errors import DivergedError
from fttool.training.trainer import Loop, trainer_class
from fttool.training.world import ALONE


def looping(*, fp16: bool) -> Any:
    """As much of a trainer as looks at an update's gradient; DeepSpeed scales by itself, so there is no scaler."""

    def diverged(what: str, rows: Any) -> None:
        raise DivergedError(what)

    return SimpleNamespace(
        _losses=[(torch.tensor(1.0), [0])],
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
        job = SimpleNamespace(factor=lambda step: 1.0)

        def _load_optimizer_and_scheduler(self, checkpoint: str) -> None:
            parameter = torch.nn.Parameter(torch.ones(1))
            parameter.grad = torch.zeros(1)
            self.accelerator.scaler.step(torch.optim.SGD([parameter]))
            scales.append(self.accelerator.scaler.get_scale())

    made: Any = trainer_class(Base)  # type: ignore[arg-type]
    made._load_optimizer_and_scheduler(object.__new__(made), "checkpoint-3")
    assert scales == [8.0]
