"""`full`: everything trains from the first update on."""

from __future__ import annotations

from typing import Literal

from typing_extensions import override

from fttool.api import Freezing, FreezingContext, FreezingPlan, TrainableUnit


class Full(Freezing):
    """Every parameter trains from the first update on.

    Use it where there is memory for it and the rows are many, or differ much from what the model knows. Cost: with
    AdamW in fp32 16 bytes per parameter and a full backward pass; what it knew fades fastest.
    """

    name: Literal["full"] = "full"

    @override
    def build(self, ctx: FreezingContext) -> FreezingPlan:
        return FreezingPlan(
            units=[TrainableUnit(parameters=frozenset(name for name, _ in ctx.model.named_parameters()))]
        )
