"""`concatenate`: every row of every dataset, once an epoch."""

from __future__ import annotations

import random
from typing import Literal

from typing_extensions import override

from fttool.api import Mixing, MixingContext, RowOrder


class Concatenate(Mixing):
    """Every row of every dataset once an epoch, in a new random order each time, so larger datasets weigh more.

    Use it for one dataset, or several that are to count by their size. Cost: nothing.
    """

    name: Literal["concatenate"] = "concatenate"
    shuffle: bool = True
    """Whether the order is random; else the datasets follow each other as in the recipe, each in its file's order."""

    @override
    def build(self, ctx: MixingContext) -> RowOrder:
        rows = sum(ctx.sizes)
        if not self.shuffle:
            return lambda epoch: range(rows)
        return lambda epoch: shuffled(rows, ctx.seed, epoch)


def shuffled(rows: int, seed: int, epoch: int) -> list[int]:
    """A permutation of `range(rows)` that depends on seed and epoch only: the same on every machine and in any run."""
    order = list(range(rows))
    random.Random(f"{seed}:{epoch}").shuffle(order)
    return order
