"""What a base model that never trains computes, kept: it then runs once per row, and an update costs the head alone.

Below a head that trains by itself, a row's hidden states are the same in every epoch. `Backbone.score` is the task's
own score on the model's own forward, in which only the base model's `forward` is one that hands out what is kept. So
what the model does above it (soft-capping, scaling, dropout before a classifier …) is its own, on any architecture.

Which places of which outputs the losses depend on is asked of autograd, for each row: a gradient of NaN at the losses
comes down as NaN wherever there is a way, whatever the weights are. Only these are kept. Each micro-batch is then
scored a second time with NaN in place of all others; where the losses differ, nothing is kept, and the run goes on
without.

All rows are computed before the first update, in micro-batches that depend on nothing but the rows, so that a resumed
run has the same features bit for bit. Whether they pay depends on the run's length: a run of one epoch that is made
longer when it resumes has them from then on, and differs in the last bits from one that had them from its start.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from pathlib import Path
from typing import Any

import torch

from fttool.contracts.batches import RowGroup
from fttool.contracts.model import Features
from fttool.contracts.task import Predictions
from fttool.events import FeaturesKept, FeaturesNotKept
from fttool.features.cache import Budget, FeatureCache, shown
from fttool.features.observed import NotCached, Observed, Places, answering, base_of, observe, same_chance
from fttool.rows.loader import EpochLoader
from fttool.training.evaluation import Score, model_inputs
from fttool.training.passes import Batch, InPasses, in_one
from fttool.watch.watch import Watch


@dataclass(kw_only=True)
class Backbone:
    """The base model below a head that trains by itself."""

    bounds: Features
    task_score: Score
    loader: EpochLoader
    lengths: Sequence[int]
    """Tokens of each row."""
    visits: float
    """Rows that the run sees, each as often as it is seen."""
    folder: Path
    """Where the file of features lies; it has no name there, and is gone with the process."""
    obstacle: str | None
    """Why this run cannot use features, where it is known beforehand."""
    kept: FeatureCache | None = None

    def score(self, model: Any, batch: Mapping[str, Any]) -> Predictions:
        """The task's score; for training rows, on what is kept of them."""
        base = base_of(model)
        if base.training:
            base.eval()  # the trainer switches everything to training before each micro-batch
        tensors = {key: value for key, value in batch.items() if key != "places"}
        if self.kept is None or "places" not in batch:
            return self.task_score(model, tensors)
        outputs = self.kept.outputs(batch["places"], tensors["input_ids"].device)
        with answering(base, lambda *_, **__: outputs):
            return self.task_score(model, tensors)

    def compute(self, model: Any, watch: Watch, stopped: Callable[[], bool], passes: InPasses = in_one) -> None:
        """Compute and keep the features of all rows, or say why not.

        Raises `KeyboardInterrupt` once it is told to stop.
        """
        began = time.perf_counter()
        try:
            self._refuse(model)
            self.loader.tell_places(list(accumulate(self.lengths, initial=0)))
            cache = self._run(model, watch, stopped, passes)
            difference = self._difference(model, cache, passes)
        except NotCached as reason:
            self.loader.tell_places(None)
            watch.event(FeaturesNotKept(text=f"the base model runs in each epoch: {reason}", reason=str(reason)))
            return
        self.kept, room = cache, cache.room
        sizes = [(room.in_memory, "in memory"), (room.in_file, "in a file")]
        where = " and ".join(f"{shown(size)} {place}" for size, place in sizes if size)
        text = f"the base model ran once over {len(self.lengths):,} rows, and will not again: {where}"
        seconds = round(time.perf_counter() - began, 3)
        held = {"memory_bytes": room.in_memory, "file_bytes": room.in_file}
        watch.event(FeaturesKept(text=text, **held, difference=difference, seconds=seconds))

    def _refuse(self, model: Any) -> None:
        base = base_of(model)
        if self.bounds.memory_gb + self.bounds.disk_gb <= 0:
            raise NotCached("features are switched off")
        if self.obstacle is not None:
            raise NotCached(self.obstacle)
        if self.visits <= len(self.lengths):
            raise NotCached(
                f"the run sees {round(self.visits):,} rows of {len(self.lengths):,}, hardly any of them twice"
            )
        if any(p.requires_grad for p in base.parameters()):
            raise NotCached("some of it trains")

    def _run(self, model: Any, watch: Watch, stopped: Callable[[], bool], passes: InPasses) -> FeatureCache:
        cache = FeatureCache(sum(self.lengths), Budget(self.bounds, self.folder))
        model.train()
        with cache.room.files:  # what is mapped of them stays when they are closed
            for groups in watch.track(self.loader.all_rows(), "computing the features of all rows"):
                if stopped():
                    raise KeyboardInterrupt
                self._add(cache, model, groups, passes)
            cache.finish()
        return cache

    def _difference(self, model: Any, cache: FeatureCache, passes: InPasses) -> float:
        """The largest one between the losses on what is kept and the model's own, in the first and last micro-batch.

        Raises `NotCached` where it is more than the other order of a sum makes.
        """
        device, worst = next(model.parameters()).device, 0.0

        def compared(batch: Batch) -> float:
            tensors = model_inputs(batch, device)
            with torch.no_grad(), same_chance(model):
                own_N = self.task_score(model, tensors).losses_N
            outputs = cache.outputs(batch["places"], device)
            with torch.no_grad(), same_chance(model), answering(base_of(model), lambda *_, **__: outputs):
                found_N = self.task_score(model, tensors).losses_N
            if not torch.allclose(found_N, own_N, rtol=1e-3, atol=1e-4):
                raise NotCached(
                    f"what was kept gives losses that differ from the model's, by {(found_N - own_N).abs().max():.2g}"
                )
            return float((found_N - own_N).abs().max())

        every = list(self.loader.all_rows())
        for groups in (every[0], every[-1]):
            worst = max(worst, *passes(self.loader.micro_batch(groups), compared))
        return worst

    def _add(self, cache: FeatureCache, model: Any, groups: Sequence[RowGroup], passes: InPasses) -> None:
        """Compute and keep a micro-batch; the first one shows how much all of them will take."""
        first, device = not cache.room.used, next(model.parameters()).device
        batch = self.loader.micro_batch(groups)
        rows = list(chain.from_iterable(batch["rows"]))

        def observed(piece: Batch) -> tuple[Observed, Places, list[int]]:
            tensors = model_inputs(piece, device)
            return (
                observe(self.task_score, model, tensors, piece["places"]),
                piece["places"],
                list(chain(*piece["rows"])),
            )

        for observation in passes(batch, observed):
            cache.add(*observation)
        if first:
            cache.room.refuse(cache.room.used * sum(self.lengths) / sum(self.lengths[row] for row in rows))
