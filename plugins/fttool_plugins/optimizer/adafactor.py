"""`adafactor`: Adam's second moment from row and column sums, and steps in proportion to the weights.

The paper is Shazeer and Stern 2018, arXiv 1804.04235; the rule is `torch.optim.Adafactor`'s.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field
from typing_extensions import override

from fttool.api import Optimizer, OptimizerContext, OptimizerParts, Problem

if TYPE_CHECKING:
    from fttool.api import Recipe


class Adafactor(Optimizer):
    """A step in proportion to the weights, with a second moment of n + m numbers for n·m of them (arXiv 1804.04235).

    R and C are running means of g² over rows and columns, with the weight t^beta2_decay for the latest; V = R·C / mean
    R, and of a vector the running mean of g² itself. The step g/√V is shrunk to a root mean square (RMS) of
    `clip_threshold` at most. Then θ ← θ − lr·weight_decay·θ − min(lr, 1/√t)·max(smallest_rms, RMS θ)·step.

    There is no momentum, so next to nothing is kept. As `lr` is relative, it must be about fifty times AdamW's for
    weights of RMS 0.02.

    Use it where AdamW's state does not fit. Cost: one number of state for each row and each column of a matrix.
    """

    name: Literal["adafactor"] = "adafactor"
    lr: Annotated[float, Field(gt=0, lt=10)] = 1e-3
    """Peak learning rate, relative: a step changes a tensor by about this share of its own RMS."""
    beta2_decay: Annotated[float, Field(le=0)] = -0.8
    """Power of the update's number by which g² is averaged: 1 − t^beta2_decay is kept of the mean; unit-free."""
    eps: Annotated[float, Field(ge=1e-15)] | None = None
    """Lowest √V, in units of the gradient, and lowest mean of R, in units of its square. Default: the weights' machine
    epsilon, 1.2e-7 in float32. With a gradient clipped to norm 1 the mean of R is about 1/N for N weights, so a matrix
    in a model beyond 10 million is below that: its V comes out too small, and `clip_threshold` alone bounds the step.
    1e-15, whose square is the paper's ε₁ of 1e-30, is the lowest: with 0 a tensor without gradient becomes NaN."""
    smallest_rms: Annotated[float, Field(ge=0)] = 1e-3
    """What stands for a tensor's RMS where that is smaller, so that zeros can be left; in units of the weights."""
    clip_threshold: Annotated[float, Field(ge=1)] = 1.0
    """Highest RMS of a tensor's step before it is scaled; unit-free."""

    @override
    def check(self, recipe: Recipe) -> Iterable[Problem]:
        """Refuse an engine that cuts matrices up: there are no rows and columns in the pieces."""
        if recipe.sharding.flat:
            engine = recipe.sharding.id()
            message = f"adafactor sums over rows and columns, and {engine} hands an optimizer flat pieces of matrices"
            yield Problem(message, key=("optimizer", "name"), hint='set sharding.name = "fsdp", or optimizer = "adamw"')

    @override
    def build(self, ctx: OptimizerContext) -> OptimizerParts:
        """Yield `torch.optim.Adafactor`; rate and decay come with the groups."""
        import torch

        options = {
            "beta2_decay": self.beta2_decay,
            "eps": (self.eps, self.smallest_rms),
            "d": self.clip_threshold,
        }
        from fttool_plugins.optimizer.gathered import on_gathered_tensors

        return OptimizerParts(optimizer_class=on_gathered_tensors(torch.optim.Adafactor), options=options)
