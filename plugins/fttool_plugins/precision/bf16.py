"""`bf16`: the range of 32-bit floats with 8 bits of precision; no loss scaling is needed."""

from __future__ import annotations

from typing import Literal

from typing_extensions import override

from fttool.api import Numerics, Precision, PrecisionContext, RecipeError


class Bf16(Precision):
    """Computes in bfloat16, over weights that stay in float32 unless told otherwise.

    A CPU without bfloat16 units emulates it, correctly and slower than float32.

    Use it on every GPU from Ampere on. Cost: half of the activations' memory of fp32; 8 bits of precision in matrix
    products.
    """

    name: Literal["bf16"] = "bf16"
    weights: Literal["float32", "bfloat16"] = "float32"
    """Format of the weights and of the optimizer's state. `bfloat16` halves their memory but loses small
    updates: 0.02 − 1e-5 is 0.02 there, so a low rate trains nothing."""

    @property
    @override
    def half_weights(self) -> bool:
        return self.weights == "bfloat16"

    @override
    def build(self, ctx: PrecisionContext) -> Numerics:
        """Yield bf16; raises `RecipeError` on an accelerator without it."""
        if not ctx.native_bf16 and ctx.device.type != "cpu":
            raise RecipeError(
                f"precision is bf16, and {ctx.device} does not compute in bfloat16",
                hint='set precision = "fp16" or precision = "fp32", or "auto" to have it chosen',
            )
        how = "as the recipe says" if ctx.native_bf16 else "emulated: this CPU has no units for it, fp32 is faster"
        risk = ", bfloat16 weights lose small updates" if self.weights == "bfloat16" else ""
        return Numerics(autocast="bf16", weights=self.weights, reason=f"bf16, {how}{risk}")
