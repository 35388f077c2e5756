"""`acme.bf16-on-gpu`: the same numbers on every colleague's CPU, and speed on GPUs."""

from __future__ import annotations

from typing import Literal

from fttool.api import Numerics, Precision, PrecisionContext


class Bf16OnGpu(Precision):
    """Computes in bf16 on GPUs that have it, and in fp32 everywhere else.

    `auto` takes bf16 on a CPU with units for it too, so that one recipe gives other losses on the laptop than on the
    CI machine. With this one, all CPUs compute alike.
    """

    name: Literal["acme.bf16-on-gpu"] = "acme.bf16-on-gpu"

    def build(self, ctx: PrecisionContext) -> Numerics:
        """Yield bf16 or fp32."""
        if ctx.device.type != "cpu" and ctx.native_bf16:
            return Numerics(autocast="bf16", reason=f"bf16, which {ctx.device} has")
        return Numerics(autocast="no", reason=f"fp32, because {ctx.device} is not a GPU with bf16")
