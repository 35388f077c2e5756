"""`auto`: the fastest format that is as good as float32 on this hardware."""

from __future__ import annotations

from typing import Literal

from typing_extensions import override

from fttool.api import Numerics, Precision, PrecisionContext


class Auto(Precision):
    """Computes in bf16 where the hardware does so natively, in fp32 elsewhere; the weights are float32.

    Never fp16: it needs loss scaling, and pre-trained models overflow in it.

    Use it unless a run must be the same on other hardware. Cost: that of what it chooses.
    """

    name: Literal["auto"] = "auto"

    @override
    def build(self, ctx: PrecisionContext) -> Numerics:
        if ctx.native_bf16:
            return Numerics(autocast="bf16", reason=f"bf16, because {ctx.device} computes in it natively")
        return Numerics(autocast="no", reason=f"fp32, because {ctx.device} does not compute in bf16 natively")
