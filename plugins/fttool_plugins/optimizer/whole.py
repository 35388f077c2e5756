"""Steps over whole tensors, where each process holds but a share: for rules that look at more than one number at once.

Adafactor sums over rows and columns, Muon makes matrices orthogonal. AdamW and SGD need none of this.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, cast

import torch
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from fttool.api import shared_like, whole


def step_whole(optimizer: Optimizer, step: Callable[[], Any]) -> None:
    """Take `step` over one parameter at a time, put together from all processes for as long as that takes.

    What the state holds in the parameter's shape is in shares again afterwards; the rest is whole in each process.
    """
    groups = optimizer.param_groups
    try:
        for group in groups:
            for p in group["params"]:
                if p.grad is not None:
                    _step_one(optimizer, group, p, step)
    finally:
        optimizer.param_groups = groups


@torch.no_grad()
def _step_one(optimizer: Optimizer, group: dict[str, Any], p: Any, step: Callable[[], Any]) -> None:
    together = whole(p.detach())
    together.grad = whole(p.grad)
    state = optimizer.state[p]
    optimizer.state[together] = whole(dict(state))
    optimizer.param_groups = [{**group, "params": [together]}]
    step()
    p.copy_(shared_like(together, p))
    for key, value in optimizer.state.pop(together).items():
        state[key] = shared_like(value, p) if getattr(value, "shape", None) == p.shape else value


def shared(groups: list[dict[str, Any]]) -> bool:
    """True where parameters are held in shares."""
    return any(isinstance(p, DTensor) for group in groups for p in group["params"])


@cache
def on_whole_tensors(optimizer_class: type[Optimizer]) -> type[Optimizer]:
    """A subclass of `optimizer_class` that takes its steps over whole tensors."""
    subclass = type(f"Whole{optimizer_class.__name__}", (_OnWholeTensors, optimizer_class), {})
    return cast("type[Optimizer]", subclass)


class _OnWholeTensors(Optimizer):
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        own: Any = super().step
        if closure is not None or not shared(self.param_groups):
            return own(closure)
        return step_whole(self, own)
