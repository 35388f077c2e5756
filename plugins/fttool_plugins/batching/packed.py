"""`packed`: several whole rows share one sequence, with attention kept inside each row."""

from __future__ import annotations

import bisect
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from typing_extensions import override

from fttool.api import Batches, Batching, BatchingContext, Encoded, Levels, RowGroup
from fttool_plugins.batching import collate
from fttool_plugins.batching.updates import like_lengths, micro_batches

POOL = 50
"""Updates among which packs are sorted by their length, as `bucketed` has it by default."""


class Packed(Batching):
    """Whole rows are packed into sequences of at most `max_length` tokens; each row still sees only itself.

    Best-fit decreasing: the longest rows first, each into the fullest sequence that still has room (Ding et al. 2024,
    arXiv 2404.10830). No row is cut. Rows stay separate through position ids that start again with each row, and under
    flash-attention through the rows' lengths. Not every model keeps to them, so each run proves it on its own model
    ([architectures](../architectures.md)). Here `micro_batch` and `global_batch` count packed sequences, so an update
    holds more rows: raise `lr` or lower `global_batch` accordingly.

    Packs of like length share an update, as rows do under `bucketed`: where many rows are longer than half of
    `max_length`, no best fit fills their packs.

    Use it for many short rows with an attention that keeps them apart (flash-attention 2), as on long GPU runs.
    Cost: at most 2% of the slots are padding; rows share a sequence, so a micro-batch's number of rows varies.
    """

    name: Literal["packed"] = "packed"
    level: ClassVar[Levels] = "token"

    @property
    @override
    def needs_same_rows(self) -> bool:
        """Other rows would make more or fewer packs."""
        return True

    @override
    def build(self, ctx: BatchingContext) -> Batches:
        return PackedBatches(ctx, self.max_length)


@dataclass(frozen=True)
class PackedBatches:
    """The plan and collator of `packed`."""

    ctx: BatchingContext
    max_length: int

    def plan(self, order: Sequence[int], epoch: int) -> list[list[RowGroup]]:
        """Micro-batches of packs; the packs depend on which rows there are, not on their order."""
        packs = best_fit_decreasing(sorted(order), self.ctx.lengths, self.max_length)
        chance = random.Random(f"packed:{self.ctx.seed}:{epoch}")
        chance.shuffle(packs)
        updates = like_lengths(packs, self._tokens, self.ctx.global_batch, POOL, chance)
        return micro_batches(updates, self.ctx.micro_batch)

    def _tokens(self, pack: RowGroup) -> int:
        return sum(self.ctx.lengths[row] for row in pack)

    def collate(self, sequences: Sequence[Sequence[Encoded]]) -> dict[str, Any]:
        """Tensors (B, T); (1, N) under flash-attention and kernels of its kind, which all have it in their name."""
        if "flash" in self.ctx.attention:
            return collate.flattened(sequences)
        return collate.packed(sequences, self.ctx.pad_id)


def best_fit_decreasing(rows: Sequence[int], lengths: Sequence[int], capacity: int) -> list[RowGroup]:
    """Rows grouped so that no group's lengths exceed `capacity`; O(n log n)."""
    packs: list[list[int]] = []
    by_room: dict[int, list[int]] = {}
    rooms: list[int] = []  # the keys of by_room, sorted
    for row in sorted(rows, key=lambda row: -lengths[row]):
        place = bisect.bisect_left(rooms, lengths[row])
        if place == len(rooms):
            pack, room = len(packs), capacity
            packs.append([])
        else:
            room = rooms[place]
            pack = by_room[room].pop()
            if not by_room[room]:
                del by_room[room], rooms[place]
        packs[pack].append(row)
        left = room - lengths[row]
        if left > 0:
            if left not in by_room:
                bisect.insort(rooms, left)
                by_room[left] = []
            by_room[left].append(pack)
    return [tuple(pack) for pack in packs]
