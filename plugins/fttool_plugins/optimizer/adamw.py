"""`adamw`: Adam with decoupled weight decay, the usual choice for language models."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import override

from fttool.api import Optimizer, OptimizerContext, OptimizerParts

Beta = Annotated[float, Field(ge=0, lt=1)]

FUSED_ON = ("cpu", "cuda", "mps", "xpu")
"""Device types for which torch has a fused step."""


class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, arXiv 1711.05101).

    m ← β₁m + (1−β₁)g and v ← β₂v + (1−β₂)g²; then θ ← θ − lr·weight_decay·θ − lr·m̂/(√v̂ + eps), where m̂ and v̂
    are m and v over 1 − βᵗ. Keeps two numbers per parameter. The step is one fused kernel where there is one.

    Use it unless memory forbids. Cost: two moments: 8 bytes per parameter in fp32.
    """

    name: Literal["adamw"] = "adamw"
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    """β₁ and β₂: what is kept per update of the gradient's mean and of its square's; unit-free."""
    eps: Annotated[float, Field(gt=0)] = 1e-8
    """Added to the denominator; in units of the gradient."""

    @override
    def build(self, ctx: OptimizerContext) -> OptimizerParts:
        """Yield `torch.optim.AdamW`; rate and decay come with the groups."""
        import torch

        fused = not ctx.unfused and ctx.device.type in FUSED_ON
        # None, not False: with False torch would not choose its multi-tensor step either.
        options = {"betas": self.betas, "eps": self.eps, "fused": fused or None}
        return OptimizerParts(optimizer_class=torch.optim.AdamW, options=options)
