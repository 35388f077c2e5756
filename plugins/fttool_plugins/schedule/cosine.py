"""`cosine`: climb, then fall along half a cosine over the rest of the run (arXiv 1608.03983)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from fttool.api import Factor, Problem, Schedule, ScheduleContext, ShareOrSteps
from fttool_plugins.schedule.floor import check_floor
from fttool_plugins.schedule.warmup import check_warmup, warmup_steps

if TYPE_CHECKING:
    from fttool.api import Recipe


def cosine(step: int, *, warmup: int, total: int, floor: float) -> float:
    """t/W below W; then f = ½(1 + cos π(t−W)/(N−W)) as f·(1−r) + r, with r = `floor`; r past the end."""
    if step < warmup:
        return step / warmup
    if step >= total:
        return floor
    fall = 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))
    return fall * (1 - floor) + floor


class Cosine(Schedule):
    """Climb over `warmup`, then fall along half a cosine to `min_lr` at the run's end (arXiv 1608.03983).

    Use it for a run whose length is known; the usual choice for SFT. Cost: nothing; the length must be known.
    """

    name: Literal["cosine"] = "cosine"
    warmup: ShareOrSteps = 0.06
    """Climb from rate 0, which is the first step's: a share of the run below 1, steps from 1 on."""
    min_lr: Annotated[float, Field(ge=0)] = 0.0
    """Rate at the end, in the unit of `optimizer.lr`; a group with another rate ends at that share of it."""

    def check(self, recipe: Recipe) -> Iterable[Problem]:
        """Refuse a climb that is longer than the run and an end above the peak."""
        yield from check_warmup(self.warmup, recipe)
        yield from check_floor(self.min_lr, recipe)

    def build(self, ctx: ScheduleContext) -> Factor:
        """Yield `cosine`."""
        warmup = warmup_steps(self.warmup, ctx.total_steps)
        return partial(cosine, warmup=warmup, total=ctx.total_steps, floor=self.min_lr / ctx.lr)
