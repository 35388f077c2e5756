"""`bucketed`: rows of like length share an update, so that little is padding."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field
from typing_extensions import override

from fttool.api import Batches, Batching, BatchingContext, Encoded, RowGroup
from fttool_plugins.batching import collate
from fttool_plugins.batching.updates import like_lengths, micro_batches

if TYPE_CHECKING:
    from torch import Tensor


class Bucketed(Batching):
    """Rows of like length share an update; padding is a few percent and every update still holds `global_batch` rows.

    The rows are cut into pools in the order of the mixing strategy; each pool is sorted by length and cut into updates,
    and the updates of a pool are shuffled. So the shares of datasets that mixing keeps hold at the end of each pool;
    within it rows of like length, and so often of one dataset, stand together. What an update holds does not depend on
    `micro_batch`, so accumulation 1×8 and 8×1 see the same rows.

    Use it unless there is a reason not to. Cost: a few percent of the slots are padding; order is random among
    pools, not among rows.
    """

    name: Literal["bucketed"] = "bucketed"
    pool: Annotated[int, Field(ge=1)] = 50
    """Updates per pool. Larger pads less; smaller keeps lengths and datasets more mixed over neighbouring updates, and
    with 1 an update holds the very rows that mixing has put next to each other."""

    @override
    def build(self, ctx: BatchingContext) -> Batches:
        return BucketedBatches(ctx, self.pool)


@dataclass(frozen=True)
class BucketedBatches:
    """The plan and collator of `bucketed`."""

    ctx: BatchingContext
    pool: int

    def plan(self, order: Sequence[int], epoch: int) -> list[list[RowGroup]]:
        """Micro-batches of like length; the rows that do not fill an update come last."""
        chance = random.Random(f"bucketed:{self.ctx.seed}:{epoch}")
        rows: list[RowGroup] = [(row,) for row in order]
        updates = like_lengths(rows, lambda group: self.ctx.lengths[group[0]], self.ctx.global_batch, self.pool, chance)
        return micro_batches(updates, self.ctx.micro_batch)

    def collate(self, sequences: Sequence[Sequence[Encoded]]) -> dict[str, Tensor]:
        """Tensors (B, T)."""
        return collate.padded(sequences, self.ctx.pad_id)
