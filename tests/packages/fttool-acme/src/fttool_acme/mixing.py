"""`acme.capped`: a large dataset takes turns with itself (Raffel et al. 2020, arXiv 1910.10683, section 3.5.2)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Literal

from pydantic import Field

from fttool.api import Mixing, MixingContext, RowOrder


class Capped(Mixing):
    """No dataset gives more than `rows` rows to an epoch, so that one large dataset does not drown the small ones.

    An epoch has min(size, rows) rows of each dataset. A larger one gives other rows to the next epoch, and sees none
    again before it has seen all.
    """

    name: Literal["acme.capped"] = "acme.capped"
    rows: Annotated[int, Field(ge=1)] = 10_000
    """Most rows of a dataset in an epoch."""

    @property
    def same_rows(self) -> bool:
        """Epochs have other rows of a large dataset."""
        return False

    def build(self, ctx: MixingContext) -> RowOrder:
        """Yield the order of an epoch."""
        return partial(order, sizes=ctx.sizes, cap=self.rows, seed=ctx.seed)


def order(epoch: int, *, sizes: Sequence[int], cap: int, seed: int) -> list[int]:
    """Rows of all datasets, shuffled; row i of dataset d is sum(sizes[:d]) + i.

    Each dataset is shuffled once and read on as a ring: epoch e has the places e·cap to (e + 1)·cap.
    """
    found: list[int] = []
    for dataset, size in enumerate(sizes):
        ring = list(range(sum(sizes[:dataset]), sum(sizes[: dataset + 1])))
        random.Random(f"acme.capped:{seed}:{dataset}").shuffle(ring)
        taken = min(size, cap)
        found += [ring[(epoch * taken + place) % size] for place in range(taken)]
    random.Random(f"acme.capped:{seed}:epoch:{epoch}").shuffle(found)
    return found
