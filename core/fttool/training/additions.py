"""What regularizers add to an update's loss: each a mean over the items of all its micro-batches, and logged apart.

Every process and micro-batch computes each of them, one that is not learned from included: under an engine that holds
weights in shares, a forward pass is made by all processes or by none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fttool.contracts.strategy import Strategy
from fttool.contracts.task import Losses, MicroBatch, Predictions
from fttool.contracts.update import Regularization
from fttool.yielded import check_term

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Addition:
    """One regularizer's loss."""

    name: str
    """Its key in `metrics.jsonl`."""
    strategy: Strategy
    yielded: Regularization


class Additions:
    """The losses of a run's regularizers, and what they are means of."""

    def __init__(self, strategies: Sequence[Strategy], yielded: Sequence[Regularization], *, varies: bool) -> None:
        """`varies`: what trains changes during the run, so that none of it may have a bearing on a loss for a while."""
        self.varies = varies
        self._all: list[Addition] = []
        for strategy, regularization in zip(strategies, yielded, strict=True):
            if regularization.loss is not None:
                before = sum(other.strategy.id() == strategy.id() for other in self._all)
                self._all.append(
                    Addition(strategy.id() + (f".{before + 1}" if before else ""), strategy, regularization)
                )
        self._totals: dict[str, int] = {}

    def counts(self, batches: Sequence[Mapping[str, Any]], update: int) -> list[int]:
        """The items in this process's micro-batches of an update, of each loss that counts items of its own."""
        items = [addition.yielded.items for addition in self._all if addition.yielded.items is not None]
        if not items:
            return []
        counted = [micro_batch(batch, batch["rows"], update) for batch in batches if batch["rows"]]
        return [sum(map(of_one, counted)) for of_one in items]

    def begin(self, totals: Sequence[int]) -> None:
        """An update begins; `totals` are the sums of all processes' `counts`."""
        own = (addition.name for addition in self._all if addition.yielded.items is not None)
        self._totals = dict(zip(own, totals, strict=True))

    def terms(
        self, model: PreTrainedModel, batch: MicroBatch, learned_by: Losses, share: float | Tensor
    ) -> Iterator[tuple[str, Tensor, float | Tensor]]:
        """Name, loss, and which share of the update's items the micro-batch has; of the task's items it has `share`."""
        for addition in self._all:
            loss, items = addition.yielded.loss, addition.yielded.items
            assert loss is not None
            assert isinstance(learned_by, Predictions)  # a run with such a regularizer learns by the score
            term = loss(model, batch, learned_by)
            check_term(addition.strategy, term, constant=self.varies)
            if items is None:
                yield addition.name, term, share
            else:
                own, total = items(batch) if batch.rows else 0, self._totals[addition.name]
                yield addition.name, term, own / total if total else 0.0


def micro_batch(batch: Mapping[str, Any], rows: Sequence[Sequence[int]], update: int) -> MicroBatch:
    """What the loader has made, as regularizers see it; `rows` are those of each sequence."""
    inputs = {name: value for name, value in batch.items() if isinstance(value, torch.Tensor | int)}
    return MicroBatch(inputs=inputs, rows=[row for sequence in rows for row in sequence], update=update)
