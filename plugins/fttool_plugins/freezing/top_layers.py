"""`top-layers`: the upper part of the model trains, the lower part stays as it was.

Lower layers hold what is general, upper ones what is particular to a task (Howard & Ruder 2018, arXiv 1801.06146).
Backward ends at the lowest layer that trains, so an update costs less time and memory the fewer layers train.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import override

from fttool.api import Freezing, FreezingContext, FreezingPlan, TrainableUnit
from fttool_plugins.freezing.stack import refuse_more_than, stack


class TopLayers(Freezing):
    """The top `n` layers train, with the final norm and the head.

    Layers are counted from the output down; in an encoder-decoder the decoder's come first. What stays is kept bit for
    bit, and needs neither gradients nor optimizer state.

    Use it where memory is short, and for tasks near to what the model knows. Cost: state and backward pass in
    proportion to the layers that train: 0.58 of the time and half of the memory of `full` in docs/benchmarks.md.
    """

    name: Literal["top-layers"] = "top-layers"
    n: Annotated[int, Field(ge=1)]
    """Layers that train, counted from the output down."""
    final_norm: bool = True
    """Whether the norm between the last layer and the head trains too."""
    head: bool = True
    """Whether the head trains too. One that shares the input embeddings stays with them: see `embeddings`."""
    embeddings: bool = False
    """Whether the input embeddings train too, and with them a head that shares their weights."""

    @override
    def build(self, ctx: FreezingContext) -> FreezingPlan:
        """Yield one unit; raises `ModelError` where the model has fewer layers."""
        blocks = stack(ctx, self.name)
        refuse_more_than(ctx, "n", self.n)
        names = {name for block in blocks[-self.n :] for name in block}
        if self.final_norm:
            names.update(ctx.layers.final)
        if self.head:
            names.update(ctx.layers.head)
        if self.embeddings:
            names.update(ctx.layers.embeddings)
        return FreezingPlan(units=[TrainableUnit(parameters=frozenset(names))])
