"""The data loader: micro-batches of an epoch in the order that mixing and batching decide.

Order is a pure function of seed and epoch, never of the global random state, so a resumed run reads on exactly where
it stopped and evaluation cannot disturb training.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from fttool.data import TokenRows
from fttool.families import Batches, Encoded, RowGroup, RowOrder


class _Sequences(Dataset[list[Encoded]]):
    """A dataset indexed by row groups: one or several rows that share a sequence."""

    def __init__(self, rows: TokenRows) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, group: RowGroup) -> list[tuple[int, Encoded]]:  # type: ignore[override]
        return [(row, self.rows[row]) for row in group]


class _Plan(Sampler[list[RowGroup]]):
    """The micro-batches of the epoch that `set_epoch` chose."""

    def __init__(self, order: RowOrder, batches: Batches) -> None:
        self.order, self.batches = order, batches
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Plan an epoch; transformers' Trainer calls this through the loader."""
        self.plan = self.batches.plan(self.order(epoch), epoch)

    def __iter__(self) -> Iterator[list[RowGroup]]:
        return iter(self.plan)

    def __len__(self) -> int:
        return len(self.plan)


class _Collate:
    """Tensors of a micro-batch, and the numbers of its rows under `rows`."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches

    def __call__(self, sequences: Sequence[Sequence[tuple[int, Encoded]]]) -> dict[str, Any]:
        tensors = self.batches.collate([[encoded for _, encoded in sequence] for sequence in sequences])
        return {**tensors, "rows": [row for sequence in sequences for row, _ in sequence]}


class EpochLoader(DataLoader[Any]):
    """A DataLoader whose epoch can be set, also after `skip_first_batches` has wrapped its sampler."""

    def set_epoch(self, epoch: int) -> None:
        """Plan the epoch's micro-batches."""
        sampler: Any = self.batch_sampler
        while not hasattr(sampler, "set_epoch"):
            sampler = sampler.batch_sampler
        sampler.set_epoch(epoch)


def train_loader(rows: TokenRows, order: RowOrder, batches: Batches, workers: int) -> EpochLoader:
    """The loader of the training rows."""
    return EpochLoader(
        _Sequences(rows),
        batch_sampler=_Plan(order, batches),
        collate_fn=_Collate(batches),
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
        generator=torch.Generator(),  # its own, so that starting an epoch draws nothing from the global state
    )


def eval_batches(rows: TokenRows, batches: Batches) -> Iterator[dict[str, Any]]:
    """All rows once, in micro-batches, without loader processes."""
    collate = _Collate(batches)
    for groups in batches.plan(range(len(rows)), 0):
        yield collate([[(row, rows[row]) for row in group] for group in groups])
