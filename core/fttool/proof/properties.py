"""What a run assumes of its model beside its batches: that it forgets a micro-batch, that weights which are to be tied
are one, that a task's shortcut says what the model says, and that activations which are computed again are the same.

Each is tried on a few short rows, in the mode in which it matters. Where shapes and contents are the same, so are the
numbers, but for kernels that add up in another order each time: they may differ by as much as those of other shapes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from fttool.contracts.rows import Encoded
from fttool.contracts.strategy import Level
from fttool.contracts.task import Losses, Predictions
from fttool.errors import FttoolError, Problem, gist
from fttool.proof.probe import Probe, labelled, seed
from fttool.training.evaluation import model_inputs
from fttool.training.proof import Finding
from fttool.training.shards import class_of

Learn = Callable[[Any, Mapping[str, Any]], Losses]
"""Model and micro-batch → what is learned by."""
Reference = Callable[[Any, Mapping[str, Any]], Tensor]
"""Model and micro-batch → logits (N, V) of the learned places, by the model's plain forward."""

UNTIE = "set tie_word_embeddings = false in the model's config.json, if its head is one of its own"
STATELESS = "take another model, or another implementation of this one: model.attention, model.trust_remote_code"
IN_PARTS = "in_parts"
"""The name of a finding without which a run goes on."""
RECOMPUTED = "set model.gradient_checkpointing = false"


@dataclass(frozen=True, kw_only=True)
class Properties:
    """Of a model, as a run needs them."""

    probe: Probe
    level: Level
    allowed: float
    """How far a number of size 1 may be from where it should be."""
    reference: Reference | None
    """Given where the task's score takes a shortcut."""
    without_shortcut: str
    """What the task says of how to do without it."""
    recomputes: bool
    """True where activations are computed again for the backward pass."""
    in_parts: Learn | None
    """Given where micro-batches are learned from part by part: the same with few places in each part."""

    def comparisons(self) -> Iterator[Finding]:
        """One for each property that is assumed."""
        yield tied(self.probe.model)
        yield self.forgets()
        if self.reference is not None:
            yield self.shortcut(self.reference)
        if self.recomputes:
            yield self.recomputation()
        if self.in_parts is not None:
            yield self.parts(self.in_parts)

    def forgets(self) -> Finding:
        """A micro-batch, another one, and the first again: as in an update, without an optimizer's step."""

        def difference() -> float:
            with training(self.probe.model):
                before, _ = self._scored(self.row), self._scored(self.other)
                again = self._scored(self.row)
            return _relative(again.losses_N, before.losses_N)

        problem = Problem(f"{self._model} carries a state from one micro-batch into the next", hint=STATELESS)
        return self._found("forgets", "a micro-batch leaves no state for the next one", problem, difference)

    def shortcut(self, reference: Reference) -> Finding:
        """The score's logits against those of the model's plain forward."""

        def difference() -> float:
            said, batch = self._scored(self.row), self._batch(self.row)
            seed(self.probe.device)
            return _relative(said.logits_NV, reference(self.probe.model, batch))

        message = f"{self._model} gives other logits by its plain forward than by the shortcut that the task takes"
        problem = Problem(message, hint=self.without_shortcut, key=("task",))
        return self._found("shortcut", "the score's logits are those of the plain forward", problem, difference)

    def recomputation(self) -> Finding:
        """Gradients at the embeddings, through all layers, with activations kept and computed again."""

        def difference() -> float:
            with recomputing(self.probe.model) as layers, training(self.probe.model):
                again = self._gradients()
                for layer in layers:
                    layer.gradient_checkpointing = False
                return max(map(_relative, again, self._gradients()), default=math.inf)

        problem = Problem(f"{self._model} computes other activations when they are recomputed", hint=RECOMPUTED)
        problem = replace(problem, key=("model", "gradient_checkpointing"))
        return self._found("recomputed", "recomputed activations are the same", problem, difference)

    def parts(self, learn: Learn) -> Finding:
        """Losses, and gradients at the embeddings, of all places at once and of few at a time."""

        def difference() -> float:
            with training(self.probe.model):
                (whole, *wholes), (parts, *others) = (self._learned(way) for way in (self.probe.score, learn))
            return max(_relative(parts, whole), *map(_relative, others, wholes))

        hint = "all places go through the head at once, which takes more memory"
        problem = Problem(f"{self._model} learns otherwise where its head gets the places part by part", hint=hint)
        return replace(self._found(IN_PARTS, "the head gives the same part by part", problem, difference), needed=False)

    # -- what is tried --

    @cached_property
    def row(self) -> Encoded:
        """A short row; where tokens are predicted the second half of it, as of an answer after its prompt."""
        if self.level == "row":
            return self.probe.uncut[0]
        row = self.probe.short[0]
        half = max(1, len(row.input_ids) // 2)
        return replace(row, labels=[-100] * half + row.input_ids[half:])

    @cached_property
    def other(self) -> Encoded:
        """Another one."""
        return self.probe.uncut[1] if self.level == "row" else labelled(self.probe.short[1])

    @property
    def _model(self) -> str:
        return class_of(self.probe.model)

    def _batch(self, row: Encoded) -> Mapping[str, Any]:
        return model_inputs(self.probe.collate([[row]]), self.probe.device)

    def _scored(self, row: Encoded) -> Predictions:
        seed(self.probe.device)
        return self.probe.score(self.probe.model, self._batch(row))

    def _gradients(self) -> list[Tensor]:
        """Of the score's loss by what the embeddings say."""
        return self._learned(self.probe.score)[1:]

    def _learned(self, learn: Learn) -> list[Tensor]:
        """The losses, and the gradients by what the embeddings say; no weight has one afterwards."""
        said: list[Tensor] = []

        def cut(_: Any, __: Any, output: Tensor) -> Tensor:
            said.append(output.detach().requires_grad_())
            return said[-1]

        handle = self.probe.model.get_input_embeddings().register_forward_hook(cut)
        try:
            with torch.enable_grad():
                seed(self.probe.device)
                by = learn(self.probe.model, self._batch(self.row))
                loss = by.losses_N.sum() + sum(by.terms.values(), 0.0)
                return [by.losses_N.detach(), *torch.autograd.grad(loss, said)]
        finally:
            handle.remove()

    def _found(self, name: str, claim: str, problem: Problem, ask: Callable[[], float]) -> Finding:
        try:
            difference = ask()
            share = f"{difference:.2g} of the largest number"
            figures = f"a difference of {share}, while rounding accounts for {self.allowed:.2g}"
        except FttoolError:
            raise
        except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as fault:
            difference, figures = math.inf, gist(fault)
        problem = replace(problem, message=f"{problem.message}: {figures}", key=problem.key or ("model", "source"))
        return Finding(name, claim, difference, self.allowed, problem)


def tied(model: Any) -> Finding:
    """Weights that the configuration says are one, in the model as it is now."""
    pairs: Mapping[str, str] = model.get_expanded_tied_weights_keys(all_submodels=True)
    named = dict(model.named_parameters(remove_duplicate=False))
    apart = [
        (one, other)
        for one, other in pairs.items()
        if one in named and other in named and not _same(named[one], named[other])
    ]
    shown = f"{apart[0][0]} and {apart[0][1]}" if apart else ""
    problem = Problem(
        f"the model's configuration ties {shown}, and they are two tensors with different values",
        hint=UNTIE,
        key=("model", "source"),
    )
    return Finding("tied", "tied weights are one tensor", math.inf if apart else 0.0, 0.0, problem)


def _same(first: Tensor, second: Tensor) -> bool:
    if first is second:
        return True
    ours, theirs = (t.to_local() if isinstance(t, DTensor) else t for t in (first, second))
    return ours.numel() > 0 and ours.data_ptr() == theirs.data_ptr()


def _relative(first: Tensor, second: Tensor) -> float:
    """The largest difference, of the size of the largest number; infinite where shapes differ."""
    if first.shape != second.shape:
        return math.inf
    ours, theirs = first.detach().float(), second.detach().float()
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp_min(torch.finfo(torch.float32).tiny))


@contextmanager
def training(model: Any) -> Generator[None]:
    """Training mode; each module's mode and all buffers, as running means are, come back afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    model.train()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)


@contextmanager
def recomputing(model: Any) -> Generator[list[Any]]:
    """The modules that compute activations again; they do so afterwards as before, or from now on in a dry run."""

    def found() -> list[Any]:
        return [module for module in model.modules() if getattr(module, "gradient_checkpointing", False) is True]

    if not found():
        enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        enable()
    layers = found()
    try:
        yield layers
    finally:
        for layer in layers:
            layer.gradient_checkpointing = True
