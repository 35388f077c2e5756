"""`acme.every-other`: half of the layers train, between layers that stay."""

from __future__ import annotations

from typing import Literal

from fttool.api import Freezing, FreezingContext, FreezingPlan, ModelError, TrainableUnit


class EveryOther(Freezing):
    """Every other layer trains; the rest, the embeddings and the head stay as they were."""

    name: Literal["acme.every-other"] = "acme.every-other"
    first: Literal[0, 1] = 0
    """The lowest layer that trains, counted from 0."""

    def build(self, ctx: FreezingContext) -> FreezingPlan:
        """Yield one unit; raises `ModelError` for a model without such a layer."""
        chosen = ctx.layers.blocks[self.first :: 2]
        if not chosen:
            raise ModelError(f"the model has {len(ctx.layers.blocks)} layers", hint='set freezing = "full"')
        return FreezingPlan(units=[TrainableUnit(parameters=frozenset(name for block in chosen for name in block))])
