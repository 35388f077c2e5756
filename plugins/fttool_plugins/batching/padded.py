"""`padded`: rows in the order they come, padded to the longest of their micro-batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from typing_extensions import override

from fttool.api import Batches, Batching, BatchingContext, Encoded, RowGroup
from fttool_plugins.batching import collate
from fttool_plugins.batching.updates import chunks, micro_batches

if TYPE_CHECKING:
    from torch import Tensor


class Padded(Batching):
    """Rows in the order of the mixing strategy, padded on the right to the longest row of their micro-batch.

    Use it to compare with other trainers, or where every row has one length. Cost: on typical chat rows half of the
    slots are padding, and take as long as the others.
    """

    name: Literal["padded"] = "padded"

    @override
    def build(self, ctx: BatchingContext) -> Batches:
        return PaddedBatches(ctx)


@dataclass(frozen=True)
class PaddedBatches:
    """The plan and collator of `padded`."""

    ctx: BatchingContext

    def plan(self, order: Sequence[int], epoch: int) -> list[list[RowGroup]]:
        """Micro-batches in the given order."""
        return micro_batches(chunks([(row,) for row in order], self.ctx.global_batch), self.ctx.micro_batch)

    def collate(self, sequences: Sequence[Sequence[Encoded]]) -> dict[str, Tensor]:
        """Tensors (B, T)."""
        return collate.padded(sequences, self.ctx.pad_id)
