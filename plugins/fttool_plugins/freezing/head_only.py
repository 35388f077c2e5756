"""`head-only`: the head learns to read what the frozen backbone already computes."""

from __future__ import annotations

from typing import Literal

from fttool.api import Freezing, FreezingContext, ModelError, Thawing, ThawUnit


class HeadOnly(Freezing):
    """Only the head trains: the output projection of a language model, or the classifier.

    The backbone keeps its weights bit for bit, and needs neither gradients nor optimizer state.
    """

    name: Literal["head-only"] = "head-only"

    def build(self, ctx: FreezingContext) -> Thawing:
        """Yield one unit of the head; raises `ModelError` where the model has none of its own."""
        if ctx.layers.tied:
            raise ModelError(
                "freezing is head-only, but this model's head shares its weights with the input embeddings",
                hint='set freezing = "full", or take a model with a head of its own',
            )
        if not ctx.layers.head:
            raise ModelError(
                f"freezing is head-only, but {type(ctx.model).__name__} has no head",
                hint='set freezing = "full"',
            )
        return Thawing(units=[ThawUnit(parameters=frozenset(ctx.layers.head))])
