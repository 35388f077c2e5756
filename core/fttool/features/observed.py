"""What of a base model's outputs the losses of a micro-batch depend on, asked of autograd."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from fttool.training.evaluation import Score

Places = NDArray[np.int64]
"""(B, T): which of all tokens stands in each slot of a micro-batch, −1 for padding."""


class NotCached(Exception):  # noqa: N818 - a decision, not an error
    """Why features are not kept."""


def base_of(model: Any) -> nn.Module:
    """The base model, also inside DistributedDataParallel."""
    return getattr(model, "module", model).base_model


@contextmanager
def answering(base: nn.Module, answer: Callable[..., Any]) -> Generator[None]:
    """While open, `answer` stands in for the forward pass of `base`."""
    before = base.__dict__.get("forward")
    base.forward = answer
    try:
        yield
    finally:
        if before is None:
            del base.forward
        else:
            base.forward = before


@dataclass
class Output:
    """One of the base model's outputs on a micro-batch."""

    per: Literal["token", "row", "nothing"]
    """`token`: shape (B, T, D). `row`: (B, D). `nothing`: another shape, or no numbers at all; such cannot be kept."""
    value: Any
    read: NDArray[np.bool_] | None = None
    """(B, T) or (B,): the vectors on which the losses depend; None where they depend on none."""


@dataclass
class Observed:
    """The base model's outputs on a micro-batch."""

    tree: pytree.TreeSpec
    outputs: list[Output]

    def without_the_rest(self, places_BT: Places) -> Any:
        """The outputs with NaN in each vector that is not read, and 0 in padding: what depends on either will show."""
        return pytree.tree_unflatten([self._without(output, places_BT) for output in self.outputs], self.tree)

    def _without(self, output: Output, places_BT: Places) -> Any:
        if output.per == "nothing":
            return placeholder(output.value)
        read = np.zeros(output.value.shape[: 2 if output.per == "token" else 1], bool)
        if output.read is not None:
            read |= output.read
        value = output.value.clone()
        value[torch.from_numpy(~read)] = torch.nan
        if output.per == "token":
            value[torch.from_numpy(places_BT < 0)] = 0
        return value


def observe(score: Score, model: Any, batch: Mapping[str, Any], places_BT: Places) -> Observed:
    """Run the base model, and find on which of its outputs the losses depend; `NotCached` if these cannot be cached."""
    base = base_of(model)
    base.eval()
    forward, calls = base.forward, list[Observed]()

    def watch(*args: Any, **kwargs: Any) -> Any:
        with torch.no_grad():
            values, tree = pytree.tree_flatten(forward(*args, **kwargs))
        values = [value.detach().requires_grad_() if is_float(value) else value for value in values]
        calls.append(Observed(tree, [Output(_per(value, places_BT), value) for value in values]))
        # Clones: the model may change them in place.
        return pytree.tree_unflatten([value.clone() if is_float(value) else value for value in values], tree)

    with same_chance(model), answering(base, watch):
        losses_N = score(model, batch).losses_N
    if len(calls) != 1:
        raise NotCached(f"{type(model).__name__} calls its base model's forward {len(calls)} times, not once")
    [call] = calls
    numbers = [output for output in call.outputs if is_float(output.value)]
    gradients = torch.autograd.grad(
        losses_N, [output.value for output in numbers], torch.full_like(losses_N, torch.nan), allow_unused=True
    )
    for output, gradient in zip(numbers, gradients, strict=True):
        _note_read(output, gradient)
    if all(output.read is None for output in call.outputs):
        raise NotCached("the losses do not depend on what it computes")
    with torch.no_grad():
        for output in numbers:
            output.value = output.value.detach()
        with same_chance(model), answering(base, lambda *_, **__: call.without_the_rest(places_BT)):
            again_N = score(model, batch).losses_N
    if not torch.allclose(losses_N, again_N):
        raise NotCached("the losses depend on more of it than their gradients show")
    return call


def _note_read(output: Output, gradient: Tensor | None) -> None:
    if gradient is None:
        return
    nan = gradient.isnan()
    if output.per == "nothing":
        if bool(nan.any()):
            raise NotCached(f"the losses depend on an output of the shape {tuple(gradient.shape)}")
        return
    read = nan.any(-1).cpu().numpy()
    output.read = read if read.any() else None


def _per(value: Any, places_BT: Places) -> Literal["token", "row", "nothing"]:
    if not is_float(value):
        return "nothing"
    if value.ndim == 3 and tuple(value.shape[:2]) == places_BT.shape:
        return "token"
    return "row" if value.ndim == 2 and len(value) == len(places_BT) else "nothing"


def is_float(value: Any) -> bool:
    """True for a tensor of numbers that have gradients."""
    return isinstance(value, Tensor) and value.is_floating_point()


def placeholder(value: Any) -> Any:
    """Stands for an output that is not read: a number where there was a tensor, nothing where there was a cache."""
    return value.new_zeros(()) if isinstance(value, Tensor) else None


@contextmanager
def same_chance(model: Any) -> Generator[None]:
    """Dropout in the head draws the same here each time, and the run's own random numbers are left alone."""
    device = next(model.parameters()).device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield
