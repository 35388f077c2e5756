"""The weights before the first update: the final ones of a run whose updates only made the model worse.

What the source gives is read from it again, as for a pull towards the start, so a run holds no second copy of it; what
was randomly initialised, or added, is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fttool.contracts.update import RegularizerContext
from fttool.training.shards import sharded_like


@dataclass(frozen=True, slots=True)
class InitialWeights:
    """The weights that train, as they were before any of them did."""

    trained: frozenset[str]
    random: Mapping[str, Tensor]
    """Those that the source does not give, in the machine's memory."""
    start: Callable[[], Mapping[str, Tensor]]
    """Reads the others."""

    @staticmethod
    def of(context: RegularizerContext) -> InitialWeights:
        """That of a model as it is now, before a checkpoint or an update has changed it."""
        random = {
            name: p.detach().to("cpu", copy=True)
            for name, p in context.model.named_parameters()
            if name in context.trained & context.new
        }
        return InitialWeights(context.trained, random, context.start)

    @torch.no_grad()
    def put(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Make them the model's again; `weights` are the plan's, see `ShardingPlan.weights`."""
        before = {**self.start(), **self.random}
        for name, p in weights:
            if name in self.trained:
                p.copy_(sharded_like(before[name], p))
