"""`fp32`: 32-bit floats throughout, the reference that the other formats are measured against."""

from __future__ import annotations

from typing import Literal

from typing_extensions import override

from fttool.api import Numerics, Precision, PrecisionContext


class Fp32(Precision):
    """Computes in 32-bit floats, with weights to match: on any device, and slowest on most.

    Use it on CPUs, for small models, and to compare numbers. Cost: 4 bytes per weight and activation; on GPUs
    several times slower than bf16.
    """

    name: Literal["fp32"] = "fp32"

    @override
    def build(self, ctx: PrecisionContext) -> Numerics:
        return Numerics(autocast="no", reason="fp32, as the recipe says")
