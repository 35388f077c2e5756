"""`acme.longest-first`: a run that does not fit into memory says so in its first update, and not in the night."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from fttool.api import Batches, Batching, BatchingContext, Encoded, RowGroup

if TYPE_CHECKING:
    from torch import Tensor


class LongestFirst(Batching):
    """The first update has the longest rows; all others come as mixing orders them, padded to the longest beside them.

    What an update needs of memory grows with its longest row, so if the first one fits, all do. Only the first epoch
    begins like this.
    """

    name: Literal["acme.longest-first"] = "acme.longest-first"

    def build(self, ctx: BatchingContext) -> Batches:
        """Yield the plan and the collator."""
        return LongestFirstBatches(ctx)


@dataclass(frozen=True)
class LongestFirstBatches:
    """The plan and the collator."""

    ctx: BatchingContext

    def plan(self, order: Sequence[int], epoch: int) -> list[list[RowGroup]]:
        """Micro-batches of one row per sequence; an update is `global_batch` of them, and the last may be short."""
        rows, size, step = list(order), self.ctx.global_batch, self.ctx.micro_batch
        if epoch == 0:
            longest = sorted(rows, key=lambda row: -self.ctx.lengths[row])[:size]
            taken = set(longest)
            rows = [*longest, *(row for row in rows if row not in taken)]
        updates = [rows[start : start + size] for start in range(0, len(rows), size)]
        return [[(row,) for row in update[at : at + step]] for update in updates for at in range(0, len(update), step)]

    def collate(self, sequences: Sequence[Sequence[Encoded]]) -> dict[str, Tensor]:
        """Tensors (B, T) of sequences that hold one row each, padded on the right."""
        import torch
        from torch.nn.utils.rnn import pad_sequence

        rows = [row for (row,) in sequences]
        ids = [torch.tensor(row.input_ids) for row in rows]
        labels = [torch.tensor([-100, *row.labels[1:]]) for row in rows]  # nothing predicts a row's first token
        return {
            "input_ids": pad_sequence(ids, batch_first=True, padding_value=self.ctx.pad_id),
            "labels": pad_sequence(labels, batch_first=True, padding_value=-100),
            "attention_mask": pad_sequence([torch.ones_like(one) for one in ids], batch_first=True),
        }
