"""Pulls towards the weights that training started from, and groups that wait: inside the optimizer.

`anchored(AdamW)` is AdamW that reads more keys of a parameter group:

- `pull`, `decoupled_pull`: coefficient c of the pull c·(θ − θ₀);
- `zero_pull`, `decoupled_zero_pull`: coefficient c of the pull c·θ;
- `importance`, `decoupled_importance`: true where each parameter has its own F, for the pull F·(θ − θ₀);
- `waits`: true while the group does not train: the own step never sees it;
- `reserve`: true where a group that waits must have its state at once.

A coupled pull is added to the clipped gradient before the own rule. A decoupled one is θ −= lr·pull before the own
step, as AdamW does its decay.

θ₀ is a parameter's value before its first step, kept as `state[p]["anchor"]` in the parameter's dtype, and F is
`state[p]["importance"]`. Why here and not in a callback: DeepSpeed steps inside the backward pass, where no callback
reaches, and what stands in the optimizer's state is sharded, offloaded, saved and resumed with the moments.
"""

# torch._foreach_* has an underscore, but it is what torch's own optimizers are made of:
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from fttool.errors import RecipeError
from fttool.training.shards import sharded_like

_OURS = ("anchor", "importance", "placeholder")
"""Keys of a parameter's state that are ours and not the optimizer's own."""
_TO_START = ("pull", "decoupled_pull", "importance", "decoupled_importance")
_PULLS = (*_TO_START, "zero_pull", "decoupled_zero_pull")

_PIECE = {"cpu": 2**18}
"""Numbers whose θ − θ₀ is held at once, by device type; a difference of all parameters would be one more copy of the
model. On a CPU 1 MB in float32, which stays in a core's cache: two to three times as quick as all at once."""
_PIECE_ELSEWHERE = 2**26
"""256 MB: each piece costs two or three launches."""


@cache
def anchored(optimizer_class: type[Optimizer]) -> type[Optimizer]:
    """A subclass of `optimizer_class` whose groups may have this module's keys.

    A parameter without a gradient is left alone by a pull, as it is by the optimizer. Raises `RecipeError` for a group
    with a pull whose weights are in half precision (θ − θ₀ would be lost in rounding), and `ValueError` for a closure.
    """
    if issubclass(optimizer_class, _Anchored):
        return optimizer_class
    name = f"Anchored{optimizer_class.__name__}"
    subclass = type(name, (_Anchored, optimizer_class), {"__doc__": optimizer_class.__doc__})
    return cast("type[Optimizer]", subclass)


@torch.no_grad()
def set_importance(optimizer: Optimizer, importance: Mapping[Tensor, Tensor]) -> None:
    """Give parameters their F, in their own shape, dtype and device; before the first step, or between two."""
    for p, values in importance.items():
        optimizer.state[p]["importance"] = sharded_like(values, p).clone()


@torch.no_grad()
def pull_value(optimizer: Optimizer) -> float:
    """The penalty whose gradient the pulls are, coupled and decoupled alike: Σ ½(c + F)(θ − θ₀)² + ½c₀θ².

    Sharded tensors (FSDP2) are summed over all ranks, so all ranks must call it. Under ZeRO the optimizer
    holds one rank's partition, and this is that partition's share of the sum.
    """
    total = 0.0
    for index, group in enumerate(optimizer.param_groups):
        to_start = group.get("pull", 0.0) + group.get("decoupled_pull", 0.0)
        to_zero = group.get("zero_pull", 0.0) + group.get("decoupled_zero_pull", 0.0)
        weighted = _weighted(group)
        params = group["params"] or getattr(optimizer, "seen", {}).get(index, ())
        states = [(p, optimizer.state.get(p, {})) for p in params]
        if to_start or weighted:
            rows = [(p, *_targets(state, weighted)) for p, state in states if "anchor" in state]
            for weights, anchors, *importance in _pieces(rows):
                away = _away(weights, anchors)
                total += to_start / 2 * _squares(away)
                if importance:
                    total += 0.5 * _squares(torch._foreach_mul(away, torch._foreach_sqrt(importance[0])))
        if to_zero:
            for (weights,) in _pieces((p,) for p, _ in states):
                total += to_zero / 2 * _squares(weights)
    return total


class _Anchored(Optimizer):
    """What `anchored` puts before an optimizer class."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # GradScaler would hand a fused step scaled gradients, to which no pull can be added, and call it even
        # on overflow. Told that this is not supported, it unscales the gradients itself and skips the step.
        self._step_supports_amp_scaling = False
        self.seen: dict[int, dict[Tensor, None]] = {}
        """Group's index → its parameters. ZeRO 3 lends a group one partition at a time, and none between the steps."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        # ZeRO 3 shows its 16-bit shards here and hands over float32 partitions later, which `step` looks at.
        _refuse_half(param_group, [p for p in param_group["params"] if not hasattr(p, "ds_id")])

    def __setstate__(self, state: dict[str, Any]) -> None:
        with _hidden(state.get("state", {})):
            super().__setstate__(state)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update: pulls of the groups that do not wait, then the optimizer's own step over them."""
        if closure is not None:
            raise ValueError("step takes no closure: a pull is added to gradients that are there already")
        active = [group for group in self.param_groups if not group.get("waits")]
        for index, group in enumerate(self.param_groups):
            self.seen.setdefault(index, {}).update(dict.fromkeys(group["params"]))
            self._anchor(group)
        for group in active:
            self._wake(group)
            self._pull(group)
        with _hidden(self.state):
            result = self._own_step(active)
        for group in self.param_groups:
            if group.get("reserve"):
                self._reserve(group)
        return result

    def _anchor(self, group: Mapping[str, Any]) -> None:
        """Note θ₀ of parameters seen for the first time, waiting ones too; F is 0 where nobody has set it."""
        if not any(group.get(key) for key in _TO_START):
            return
        new = [p for p in group["params"] if "anchor" not in self.state.get(p, {})]
        _refuse_half(group, new)
        for p in new:
            self.state[p]["anchor"] = p.detach().clone()
            if _weighted(group):
                self.state[p].setdefault("importance", torch.zeros_like(p))

    def _pull(self, group: Mapping[str, Any]) -> None:
        rate = float(group["lr"])
        pulled = [p for p in group["params"] if p.grad is not None]
        if any(group.get(key) for key in _TO_START):
            coupled, decoupled = group.get("pull", 0.0), group.get("decoupled_pull", 0.0)
            rows = ((p, p.grad, *_targets(self.state[p], _weighted(group))) for p in pulled)
            for weights, grads, anchors, *importance in _pieces(rows):
                away = _away(weights, anchors)
                if coupled:
                    torch._foreach_add_(grads, away, alpha=coupled)
                if group.get("importance"):
                    torch._foreach_addcmul_(grads, importance[0], away)
                if decoupled:
                    torch._foreach_sub_(weights, away, alpha=rate * decoupled)
                if group.get("decoupled_importance"):
                    torch._foreach_addcmul_(weights, importance[0], away, value=-rate)
        if pulled and group.get("zero_pull"):
            torch._foreach_add_([p.grad for p in pulled if p.grad is not None], pulled, alpha=group["zero_pull"])
        if pulled and group.get("decoupled_zero_pull"):
            torch._foreach_mul_(pulled, 1 - rate * group["decoupled_zero_pull"])

    def _reserve(self, group: Mapping[str, Any]) -> None:
        """Make the state of a waiting group at once: FSDP2 and DeepSpeed fix the set of tensors at the start.

        Only the optimizer knows what it keeps, so it takes one step with gradients of 0. The weights are put
        back; what the step left in the state is a placeholder, until `_wake` lets the optimizer make it anew.
        """
        params = [p for p in group["params"] if "placeholder" not in self.state.get(p, {})]
        if group.get("waits") and params:
            before = [(p, p.grad, p.detach().clone()) for p in params]
            try:
                for p in params:
                    p.grad = torch.zeros_like(p)
                with _hidden(self.state):
                    self._own_step([{**group, "params": params}])
            finally:
                for p, grad, value in before:
                    p.grad = grad
                    p.copy_(value)
        for p in params:
            self.state[p]["placeholder"] = bool(group.get("waits"))

    def _wake(self, group: Mapping[str, Any]) -> None:
        """Drop the placeholders of a group that starts now: the optimizer takes its first step with it."""
        for p in group["params"]:
            if self.state.get(p, {}).get("placeholder"):
                ours = {key: self.state[p][key] for key in _OURS if key in self.state[p]}
                self.state[p] = {**ours, "placeholder": False}

    def _own_step(self, groups: list[dict[str, Any]]) -> Any:
        """The optimizer's own step, over `groups` alone."""
        if not groups:
            return None
        own: Any = super().step
        if getattr(own, "hooked", False):  # torch wraps each class it makes one of; hooks must not run twice
            own = own.__wrapped__.__get__(self)
        everything, self.param_groups = self.param_groups, groups
        try:
            return own()
        finally:
            self.param_groups = everything


@contextmanager
def _hidden(state: Mapping[Any, Any]) -> Generator[None]:
    """Take our keys out of a state for a while: Adam takes a state that is not empty for one it has made."""
    held = [cast("dict[str, Any]", entry) for entry in state.values() if isinstance(entry, dict)]
    ours = [{key: entry.pop(key) for key in _OURS if key in entry} for entry in held]
    try:
        yield
    finally:
        for entry, taken in zip(held, ours, strict=True):
            entry.update(taken)


def _weighted(group: Mapping[str, Any]) -> bool:
    return bool(group.get("importance") or group.get("decoupled_importance"))


def _targets(state: Mapping[str, Any], weighted: bool) -> tuple[Tensor, ...]:
    """θ₀, and F where the pull is weighted by it."""
    return (state["anchor"], state["importance"]) if weighted else (state["anchor"],)


def _pieces(rows: Iterable[tuple[Tensor, ...]]) -> Iterator[tuple[list[Tensor], ...]]:
    """Rows of tensors of one shape (a weight, its anchor …) as columns, a piece at a time; large ones as views."""
    piece: list[tuple[Tensor, ...]] = []
    held = 0
    for row in rows:
        size = _PIECE.get(row[0].device.type, _PIECE_ELSEWHERE)
        for part in _cut(row, size):
            if piece and held + part[0].numel() > size:
                yield _columns(piece)
                piece, held = [], 0
            piece.append(part)
            held += part[0].numel()
    if piece:
        yield _columns(piece)


def _cut(row: tuple[Tensor, ...], size: int) -> Iterable[tuple[Tensor, ...]]:
    """Views of at most `size` numbers into each tensor, cut alike; the tensors uncut where there are no such views."""
    if row[0].numel() <= size:
        return [row]
    from torch.distributed.tensor import DTensor

    if any(isinstance(tensor, DTensor) or not tensor.is_contiguous() for tensor in row):
        return [row]
    return zip(*(tensor.view(-1).split(size) for tensor in row), strict=True)


def _columns(rows: list[tuple[Tensor, ...]]) -> tuple[list[Tensor], ...]:
    return tuple(list(column) for column in zip(*rows, strict=True))


def _away(weights: list[Tensor], anchors: list[Tensor]) -> tuple[Tensor, ...]:
    """θ − θ₀: one subtraction of near numbers, which is exact, before anything is scaled."""
    return torch._foreach_sub(weights, anchors)


def _squares(tensors: Iterable[Tensor]) -> float:
    """The sum of all squares, over all ranks where the tensors are sharded."""
    from torch.distributed.tensor import DTensor

    norms = torch._foreach_norm(tuple(tensors))
    return sum(float(norm.full_tensor() if isinstance(norm, DTensor) else norm) ** 2 for norm in norms)


def _refuse_half(group: Mapping[str, Any], params: list[Tensor]) -> None:
    half = {p.dtype for p in params} & {torch.bfloat16, torch.float16}
    if half and any(group.get(key) for key in _PULLS):
        names = " and ".join(sorted(str(dtype).removeprefix("torch.") for dtype in half))
        raise RecipeError(
            f"a pull towards the pre-trained weights cannot act on {names} weights: rounding swallows it",
            hint='set precision.weights = "float32"; the computation may still be in bf16',
        )
