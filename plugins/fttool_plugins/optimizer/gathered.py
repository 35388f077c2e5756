"""Steps over gathered tensors, where each process holds a shard: for rules that look at more than one number at once.

Adafactor sums over rows and columns, Muon makes matrices orthogonal. AdamW and SGD need none of this.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, cast

import torch
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from fttool.api import gathered, sharded_like


def step_gathered(optimizer: Optimizer, step: Callable[[], Any]) -> None:
    """Take `step` over one parameter at a time, gathered from all processes for as long as that takes.

    What the state holds in the parameter's shape is sharded again afterwards; the rest is full in each process.
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
    full = gathered(p.detach())
    full.grad = gathered(p.grad)
    state = optimizer.state[p]
    optimizer.state[full] = gathered(dict(state))
    optimizer.param_groups = [{**group, "params": [full]}]
    step()
    p.copy_(sharded_like(full, p))
    for key, value in optimizer.state.pop(full).items():
        state[key] = sharded_like(value, p) if getattr(value, "shape", None) == p.shape else value


def shared(groups: list[dict[str, Any]]) -> bool:
    """True where parameters are held in shares."""
    return any(isinstance(p, DTensor) for group in groups for p in group["params"])


@cache
def on_gathered_tensors(optimizer_class: type[Optimizer]) -> type[Optimizer]:
    """A subclass of `optimizer_class` that takes its steps over gathered tensors."""
    subclass = type(f"Gathered{optimizer_class.__name__}", (_OnGatheredTensors, optimizer_class), {})
    return cast("type[Optimizer]", subclass)


class _OnGatheredTensors(Optimizer):
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        own: Any = super().step
        if closure is not None or not shared(self.param_groups):
            return own(closure)
        return step_gathered(self, own)
