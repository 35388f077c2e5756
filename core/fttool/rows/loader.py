"""The data loader: micro-batches of an epoch in the order that mixing and batching decide.

Order is a pure function of seed and epoch, never of the global random state, so a resumed run reads on exactly where
it stopped and evaluation cannot disturb training.

Several processes take turns at the micro-batches, so an update holds the same rows whatever their number. Where the
last round leaves some without, they get padding: tensors to compute on, so that all make as many passes, but no rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from fttool.contracts.batches import Batches, RowGroup, RowOrder
from fttool.contracts.rows import Encoded
from fttool.errors import PluginError, Problem
from fttool.rows.tokens import JoinedRows, TokenRows
from fttool.world import World

Planned: TypeAlias = tuple[TokenRows | JoinedRows, Sequence[Sequence[RowGroup]]]
"""Rows, and the micro-batches that are made of them."""

_ABOVE_IDS = 2**40
"""Numbers from here on are not token ids."""


class _Sequences(Dataset[list[Encoded]]):
    """A dataset indexed by row groups: one or several rows that share a sequence."""

    def __init__(self, rows: Sequence[Encoded]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, group: RowGroup) -> list[tuple[int | None, Encoded]]:  # type: ignore[override]
        return [(None if isinstance(group, _Padding) else row, self.rows[row]) for row in group]


class _Padding(tuple[int, ...]):
    """Rows that stand in a micro-batch for nothing: nobody learns from them, nobody counts them."""


def share(plan: Sequence[list[RowGroup]], world: World) -> list[list[RowGroup]]:
    """This process's turns at the micro-batches; every process has as many."""
    missing = -len(plan) % world.size
    padding: list[list[RowGroup]] = [[_Padding(group) for group in plan[-1]]] * missing if missing else []
    return [*plan, *padding][world.rank :: world.size]


class _Plan(Sampler[list[RowGroup]]):
    """The micro-batches of the epoch that `set_epoch` chose; iterated over, this process's share of them."""

    def __init__(self, order: RowOrder, batches: Batches, world: World) -> None:
        self.order, self.batches, self.world = order, batches, world
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Plan an epoch; transformers' Trainer calls this through the loader."""
        before = len(self.plan) if epoch else None
        self.plan = self.batches.plan(self.order(epoch), epoch)
        if before is not None and before != len(self.plan):  # the steps of the run were counted from the first epoch
            message = f"batching plans {len(self.plan)} micro-batches for epoch {epoch}, and {before} for the others"
            hint = (
                "every epoch needs as many: choose another batching or mixing strategy, and tell the plugin's authors"
            )
            raise PluginError(Problem(message, hint=hint, key=("batching",)))

    def __iter__(self) -> Iterator[list[RowGroup]]:
        return iter(share(self.plan, self.world))

    def __len__(self) -> int:
        return -(-len(self.plan) // self.world.size)


@dataclass(frozen=True)
class WithTargets:
    """Batches of rows whose classes are learned: with `targets`, with `token_type_ids` where rows are of two texts, and
    with `words` where words have classes.
    """

    batches: Batches
    targets: Callable[[Sequence[tuple[str, ...]]], Tensor]

    def plan(self, order: Sequence[int], epoch: int) -> list[list[RowGroup]]:
        """Those of `batches`."""
        return self.batches.plan(order, epoch)

    def collate(self, sequences: Sequence[Sequence[Encoded]]) -> dict[str, Tensor]:
        """The tensors of `batches` and those of the classes; a sequence holds one row."""
        tensors = self.batches.collate(sequences)
        rows = [row for (row,) in sequences]
        tensors["targets"] = self.targets([row.classes or () for row in rows])
        if any(row.token_types for row in rows):
            tensors["token_type_ids"] = _like(tensors["input_ids"], [row.token_types or [] for row in rows], 0)
        if any(row.words for row in rows):
            tensors["words"] = _like(tensors["input_ids"], [row.words or [] for row in rows], -1)
        return tensors


def _like(ids_BT: Tensor, rows: Sequence[Sequence[int]], padding: int) -> Tensor:
    """(B, T): a number for each token of the rows, and `padding` after them."""
    values_BT = torch.full_like(ids_BT, padding)
    for index, row in enumerate(rows):
        values_BT[index, : len(row)] = torch.tensor(row, dtype=torch.long)
    return values_BT


class _Collate:
    """Tensors of a micro-batch, and under `rows` the numbers of the rows in each of its sequences; padding has none."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches
        self.starts: Sequence[int] | None = None
        """Where each row begins among the tokens of all rows; set where `places` are asked for."""

    def __call__(self, sequences: Sequence[Sequence[tuple[int | None, Encoded]]]) -> dict[str, Any]:
        tensors = self.batches.collate([[encoded for _, encoded in sequence] for sequence in sequences])
        numbered = [[(number, row) for number, row in sequence if number is not None] for sequence in sequences]
        batch = {**tensors, "rows": [[number for number, _ in sequence] for sequence in numbered if sequence]}
        return batch if self.starts is None else {**batch, "places": self._places(numbered, self.starts)}

    def _places(self, sequences: Sequence[Sequence[tuple[int, Encoded]]], starts: Sequence[int]) -> NDArray[np.int64]:
        """(B, T): which of all tokens stands in each slot, −1 for padding.

        Where a strategy puts the tokens of a row, it shows by itself when it is given their numbers instead of them.
        """
        numbered = [[_numbered(row, _ABOVE_IDS + starts[number]) for number, row in sequence] for sequence in sequences]
        ids_BT = self.batches.collate(numbered)["input_ids"].numpy() - _ABOVE_IDS
        return np.where(ids_BT < 0, -1, ids_BT)


def _numbered(row: Encoded, first: int) -> Encoded:
    """The row with the numbers from `first` on in place of its tokens, and of their labels."""
    numbers = list(range(first, first + len(row.input_ids)))
    # Labels too: batches whose labels are not those of their tokens are refused.
    labels = [label if label == -100 else number for label, number in zip(row.labels, numbers, strict=True)]
    return replace(row, input_ids=numbers, labels=labels)


class EpochLoader(DataLoader[Any]):
    """A DataLoader whose epoch can be set, also after `skip_first_batches` has wrapped its sampler."""

    def set_epoch(self, epoch: int) -> None:
        """Plan the epoch's micro-batches."""
        self._planner().set_epoch(epoch)

    @property
    def plan(self) -> Sequence[Sequence[RowGroup]]:
        """The micro-batches of the epoch that is planned, of all processes."""
        return self._planner().plan

    def planned(self) -> Iterator[int]:
        """The rows of the epoch that is planned, in the order in which they are seen by all processes."""
        return (row for micro_batch in self._planner().plan for group in micro_batch for row in group)

    def largest(self, lengths: Sequence[int], *, at_once: bool) -> int:
        """Slots of the largest micro-batch of the epoch that is planned, of rows of these lengths; of its largest
        sequence alone where they need not go through the model at once.
        """
        groups = self.plan if at_once else [[group] for micro_batch in self.plan for group in micro_batch]
        widths = [[sum(lengths[row] for row in group) for group in sequences] for sequences in groups]
        largest = max(range(len(groups)), key=lambda index: max(widths[index]) * len(widths[index]))
        return self.micro_batch(groups[largest])["input_ids"].numel()

    def most_tokens(self, lengths: Sequence[int]) -> int:
        """Tokens of the micro-batch that has most of them, in the epoch that is planned, of rows of these lengths."""
        return max(sum(lengths[row] for group in micro_batch for row in group) for micro_batch in self.plan)

    def all_rows(self) -> list[list[RowGroup]]:
        """Every row once, in micro-batches that depend on nothing but the rows."""
        return self._planner().batches.plan(range(len(self._rows)), 0)

    def micro_batch(self, groups: Sequence[RowGroup]) -> dict[str, Any]:
        """The tensors of one of `all_rows`."""
        collate: Any = self.collate_fn
        return collate([self._rows[group] for group in groups])

    def tell_places(self, starts: Sequence[int] | None) -> None:
        """Let micro-batches have `places`, from the next epoch on: `starts` says where each row's tokens begin."""
        collate: Any = self.collate_fn
        collate.starts = starts

    @property
    def _rows(self) -> _Sequences:
        rows: Any = self.dataset
        return rows

    def _planner(self) -> _Plan:
        sampler: Any = self.batch_sampler
        while not hasattr(sampler, "set_epoch"):
            sampler = sampler.batch_sampler
        return sampler


def train_loader(rows: Sequence[Encoded], order: RowOrder, batches: Batches, workers: int, world: World) -> EpochLoader:
    """The loader of this process's share of what is learned from."""
    return EpochLoader(
        _Sequences(rows),
        batch_sampler=_Plan(order, batches, world),
        collate_fn=_Collate(batches),
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,  # else they are started again for each epoch
        generator=torch.Generator(),  # its own, so that starting an epoch draws nothing from the global state
    )


def eval_batches(
    rows: Sequence[Encoded], batches: Batches, world: World, *, track: Callable[[Sequence[Any]], Iterable[Any]] = iter
) -> Iterator[dict[str, Any]]:
    """This process's share of all rows, each once, in micro-batches, without loader processes.

    `track` hands on what it is given one by one, and may show how far that is.
    """
    collate, sequences = _Collate(batches), _Sequences(rows)
    for groups in track(share(batches.plan(range(len(rows)), 0), world)):
        yield collate([sequences[group] for group in groups])


@dataclass(frozen=True, kw_only=True)
class Batching:
    """The rows in micro-batches."""

    loader: EpochLoader
    eval_batches: Callable[[], Any]
    """All evaluation rows once."""
    retention_batches: Mapping[str, Callable[[], Any]]
    """All rows of each retention dataset once."""
    batches: Batches
    """Of the rows that are learned from."""
    planned: Callable[[], Sequence[Planned]]
    """All micro-batches of the first epoch and of an evaluation."""
    built: dict[str, Any]
    """What the strategies built, by their place in the recipe; some of it may have state."""
