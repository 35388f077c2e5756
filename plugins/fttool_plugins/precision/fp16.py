"""`fp16`: half precision with dynamic loss scaling, for accelerators that lack bfloat16."""

from __future__ import annotations

from typing import Literal

from typing_extensions import override

from fttool.api import Numerics, Precision, PrecisionContext, RecipeError


class Fp16(Precision):
    """Computes in 16-bit floats with dynamic loss scaling (Micikevicius et al. 2018, arXiv 1710.03740).

    The weights stay in float32. The loss is multiplied by a scale so that small gradients do not vanish; an
    update whose gradients overflow is skipped, whatever the optimizer, and the scale halved. A skipped update leaves
    weights and optimizer state as they are, and is an update in every other respect: its rows are seen, and schedule,
    freezing, evaluations and checkpoints go on by its number. `summary.json` counts them; a run diverges after 20 in a
    row, or where all were skipped.

    Use it on GPUs without bf16 (V100, T4). Cost: as bf16, and now and then an update that is skipped while the loss
    scale is found.
    """

    name: Literal["fp16"] = "fp16"

    @override
    def build(self, ctx: PrecisionContext) -> Numerics:
        """Yield fp16; raises `RecipeError` on a CPU."""
        if ctx.device.type == "cpu":
            raise RecipeError(
                "precision is fp16, and this run is on a CPU, where there is no loss scaling",
                hint='set precision = "fp32", or "auto" to have it chosen',
            )
        return Numerics(autocast="fp16", reason="fp16 with dynamic loss scaling, as the recipe says")
