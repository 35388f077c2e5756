"""What is not finite ends a run: a loss, a gradient, weights. None of it is saved.

`Finite` overrides the method of `transformers.Trainer` that comes right before an optimizer's step; `Loop` is one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import Trainer

from fttool.errors import DivergedError
from fttool.events import Diverged
from fttool.training import scaling
from fttool.training.guard import overrides
from fttool.training.job import Job
from fttool.training.shards import local_shard

_Base = Trainer if TYPE_CHECKING else object


class Finite(_Base):
    """Looks at losses and gradients before each update, at what loss scaling made of it, and at weights that are to be
    saved.
    """

    job: Job

    def __init__(self, **arguments: Any) -> None:
        self.losses: list[tuple[Tensor, list[int]]] = []
        """Of the micro-batches of this update, with their rows."""
        self.latest_rows: list[int] = []
        """Of the latest update."""
        self.overflowed = False
        """True where the gradient of the latest update was not finite."""
        self.asked = 0
        """The signal that any process had when the latest update was about to be made: all stop after the same one."""
        super().__init__(**arguments)

    @overrides("update")
    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        """The norm before clipping; called once per update, right before the optimizer's step."""
        norm: Any = super()._get_grad_norm(model, grad_norm=grad_norm)
        self._refuse_non_finite(float(norm))
        return norm

    def _refuse_non_finite(self, norm: float) -> None:
        losses, rows = zip(*self.losses, strict=True)
        self.losses.clear()
        self.latest_rows = [row for ids in rows for row in ids]
        finite = torch.isfinite(torch.stack(losses)).tolist()
        step = self.state.global_step + 1
        mine = [int(not all(finite)), self.job.asked or 0]
        anywhere, self.asked = self.job.world.all_reduce_max(mine, self.args.device)
        if anywhere:
            bad = [row for ids, fine in zip(rows, finite, strict=True) if not fine for row in ids]
            self.diverged(f"the loss of update {step} is not finite", bad, step)
        self.overflowed = not math.isfinite(norm)
        if self.overflowed and not self.args.fp16:  # there a skipped update is not a diverged one
            self.diverged(f"the gradient of update {step} is not finite", self.latest_rows, step)

    def was_skipped(self) -> bool:
        """True where loss scaling skipped the update that was just made. Counts it, and lets the schedule go on."""
        skipped, update = bool(self.accelerator.optimizer_step_was_skipped), self.state.global_step
        what = scaling.count(self.job.progress, skipped)
        if self.overflowed and not skipped:
            what = f"the gradient of update {update} is not finite, and the optimizer made a step of it"
        if what is not None:
            self.diverged(what, self.latest_rows, update)
        scaling.go_on(self.lr_scheduler, update)
        return skipped

    def refuse_skipped_alone(self) -> None:
        """Raise `DivergedError` where the run is over and loss scaling has skipped each of its updates."""
        update = self.state.global_step
        if update and self.job.progress.skipped == update:
            what = f"loss scaling skipped all {update} updates: nothing was learned"
            self.diverged(what, self.latest_rows, update)

    def refuse_non_finite_weights(self, *, gathered: bool = False) -> None:
        """Raise `DivergedError` where a weight is not finite: it must not be saved. All processes must ask.

        Each looks at its share of the weights, but with `gathered` the first at all of them: after `gather_weights`.
        """
        model: Any = self.model
        named: Iterable[tuple[str, Tensor]] = model.named_parameters() if gathered else self.job.plan.shares(model)
        bad = [] if gathered and not self.job.world.first else not_finite(named)
        every = list(dict.fromkeys(name for names in self.job.world.all_gather(bad) for name in names))
        if every:
            more = f" and {len(every) - 1} more" if len(every) > 1 else ""
            are = "are" if more else "is"
            update = self.state.global_step
            what = f"after update {update} '{every[0]}'{more} {are} not finite, and nothing of it is saved"
            self.diverged(what, self.latest_rows, update)

    def diverged(self, what: str, rows: Sequence[int], update: int) -> None:
        """Record and raise that the run cannot go on, naming the rows that each process gives of that update."""
        every = [row for process_rows in self.job.world.all_gather(list(rows)) for row in process_rows]
        origins = [self.job.rows.learned.origin(row) for row in every]
        self.job.watch.event(Diverged(step=update, what=what, rows=origins))
        shown = ", ".join(origins[:3]) + (f" and {len(origins) - 3} more" if len(origins) > 3 else "")
        hint = "lower optimizer.lr, or look at these rows; with fp16, try bfloat16"
        if any(regularization.pulls for regularization in self.job.update.regularizations):
            hint = f"lower the strength of what pulls, in [[regularizers]]; {hint}"
        raise DivergedError(f"{what}; its rows: {shown}" if shown else what, hint=hint)


@torch.no_grad()
def not_finite(named: Iterable[tuple[str, Tensor]]) -> list[str]:
    """Names of the tensors in whose share of this process a number is NaN or infinite.

    One reduction each, without a copy: the largest magnitude is not finite where any number is not.
    """
    names: list[str] = []
    largest: list[Tensor] = []
    for name, tensor in named:
        here = local_shard(tensor.detach())
        if here.is_floating_point() and here.numel():
            names.append(name)
            largest.append(torch.linalg.vector_norm(here, math.inf).double().cpu())
    if not largest:
        return []
    finite = torch.isfinite(torch.stack(largest)).tolist()
    return [name for name, fine in zip(names, finite, strict=True) if not fine]
