"""`lisa`: a few layers at a time, sampled anew every K updates (LISA: Pan et al. 2024, arXiv 2403.17919).

Embeddings, final norm and head train in every update. Of the L layers, n train in updates [pK, (p+1)K): a sample
without replacement that depends on the seed and the period p alone, so a resumed run samples the same layers.
Each layer trains in a share n/L of the updates on average.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field
from typing_extensions import override

from fttool.api import ALWAYS, Freezing, FreezingContext, FreezingPlan, Problem, TrainableUnit, Updates
from fttool_plugins.freezing.stack import refuse_more_than, stack

if TYPE_CHECKING:
    from fttool.api import Recipe


def sampled(period: int, *, layers: int, n: int, seed: int) -> list[int]:
    """The layers of a period: n of `range(layers)`."""
    return random.Random(f"lisa:{seed}:{period}").sample(range(layers), n)


def turns(periods: Sequence[int], every: int, total: int) -> Updates:
    """The updates of ascending periods of `every` updates, up to `total`; periods in a row are one stretch."""
    stretches: list[range] = []
    for period in periods:
        begin, end = period * every, min((period + 1) * every, total)
        if stretches and stretches[-1].stop == begin:
            begin = stretches.pop().start
        stretches.append(range(begin, end))
    return tuple(stretches)


class Lisa(Freezing):
    """Embeddings, final norm and head train always, and of the layers, `n` that are sampled (arXiv 2403.17919).

    A layer that rests has no gradient, and the activations that only its weights need are not kept. Its moments stay
    in the optimizer for its next turn, so the optimizer's state grows to the size that it has with `full`.

    Use it for full fine-tuning where activations and gradients of all layers do not fit at once. Cost: gradients of
    n layers at a time; moments of resting layers are kept, so optimizer state grows to that of `full`.
    """

    name: Literal["lisa"] = "lisa"
    n: Annotated[int, Field(ge=1)] = 2
    """Layers that train at a time; γ in the paper."""
    every: Annotated[int, Field(ge=1)] = 20
    """Updates between two samplings; K in the paper."""

    @property
    @override
    def extendable(self) -> bool:
        """False: in a longer run other layers would have been sampled together, and parameters are grouped by that."""
        return False

    @override
    def check(self, recipe: Recipe) -> Iterable[Problem]:
        """Refuse a run in which nothing is sampled anew: most layers would never train."""
        total = recipe.run.max_steps
        if total is not None and self.every >= max(total, 2):
            message = f"lisa samples layers every {self.every} updates, and run.max_steps is {total}: it samples once"
            yield Problem(message, key=("freezing", "every"), hint=f"set every = {max(1, total // 10)}")

    @override
    def build(self, ctx: FreezingContext) -> FreezingPlan:
        """Yield one unit a layer, and one of what always trains; raises `ModelError` for too few layers."""
        blocks = stack(ctx, self.name)
        refuse_more_than(ctx, "n", self.n)
        periods: list[list[int]] = [[] for _ in blocks]
        for period in range(-(-ctx.total_steps // self.every)):
            for layer in sampled(period, layers=len(blocks), n=self.n, seed=ctx.seed):
                periods[layer].append(period)
        always = frozenset([*ctx.layers.embeddings, *ctx.layers.final, *ctx.layers.head])
        return FreezingPlan(
            units=[TrainableUnit(parameters=always, trains_in=ALWAYS)]
            + [
                TrainableUnit(parameters=frozenset(block), trains_in=turns(met, self.every, ctx.total_steps))
                for block, met in zip(blocks, periods, strict=True)
            ]
        )
