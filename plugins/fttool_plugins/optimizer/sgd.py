"""`sgd`: gradient descent with momentum, as the papers on pulls towards pre-trained weights use it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field
from typing_extensions import override

from fttool.api import Optimizer, OptimizerContext, OptimizerParts, Problem

if TYPE_CHECKING:
    from fttool.api import Recipe

FUSED_ON = ("cpu", "cuda", "mps")
"""Device types for which torch has a fused step."""


class SGD(Optimizer):
    """Gradient descent with momentum: b ← momentum·b + g + weight_decay·θ, θ ← θ − lr·b.

    Weight decay goes through the momentum, unlike in `adamw`. Keeps one number per parameter.

    Use it as a baseline, or where state of even one moment is too much (`momentum = 0`). Cost: 4 bytes per
    parameter in fp32 with momentum, none without; far more updates on language models.
    """

    name: Literal["sgd"] = "sgd"
    lr: Annotated[float, Field(gt=0, lt=10)] = 0.01
    """Peak learning rate; a step is as long as its gradient, so it must be far larger than Adam's."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Share of the last step that goes into this one; 0 for none."""
    nesterov: bool = False
    """Step by g + momentum·b instead of b; needs momentum."""

    @override
    def check(self, recipe: Recipe) -> Iterable[Problem]:
        if self.nesterov and self.momentum == 0:
            message = "nesterov = true needs a momentum above 0"
            yield Problem(message, key=("optimizer", "momentum"), hint="the usual momentum is 0.9")

    @override
    def build(self, ctx: OptimizerContext) -> OptimizerParts:
        """Yield `torch.optim.SGD`; rate and decay come with the groups."""
        import torch

        fused = not ctx.unfused and not ctx.sharded and ctx.device.type in FUSED_ON
        # None, not False: with False torch would not choose its multi-tensor step either.
        options = {"momentum": self.momentum, "nesterov": self.nesterov, "fused": fused or None}
        return OptimizerParts(optimizer_class=torch.optim.SGD, options=options)
