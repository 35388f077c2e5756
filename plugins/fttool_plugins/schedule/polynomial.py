"""`polynomial`: climb, then fall along a power of what is left of the run."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from fttool.api import Factor, Problem, Schedule, ScheduleContext, ShareOrSteps
from fttool_plugins.schedule.floor import check_floor
from fttool_plugins.schedule.warmup import check_warmup, warmup_steps

if TYPE_CHECKING:
    from fttool.api import Recipe


def polynomial(step: int, *, warmup: int, total: int, floor: float, power: float) -> float:
    """t/W below W; then f = ((N−t)/(N−W))^p as f·(1−r) + r, with r = `floor`; r past the end."""
    if step < warmup:
        return step / warmup
    if step >= total:
        return floor
    return ((total - step) / (total - warmup)) ** power * (1 - floor) + floor


class Polynomial(Schedule):
    """Climb over `warmup`, then fall along a power of what is left, to `min_lr` at the run's end.

    A power of 1 is `linear`; above 1 most of the fall comes early, below 1 it comes late.

    Use it where a recipe that is to be reproduced has it. Cost: nothing; the length must be known.
    """

    name: Literal["polynomial"] = "polynomial"
    warmup: ShareOrSteps = 0.06
    """Climb from rate 0, which is the first step's: a share of the run below 1, steps from 1 on."""
    power: Annotated[float, Field(gt=0)] = 2.0
    """p in ((N−t)/(N−W))^p; unit-free."""
    min_lr: Annotated[float, Field(ge=0)] = 0.0
    """Rate at the end, in the unit of `optimizer.lr`; a group with another rate ends at that share of it."""

    def check(self, recipe: Recipe) -> Iterable[Problem]:
        """Refuse a climb that is longer than the run and an end above the peak."""
        yield from check_warmup(self.warmup, recipe)
        yield from check_floor(self.min_lr, recipe)

    def build(self, ctx: ScheduleContext) -> Factor:
        """Yield `polynomial`."""
        warmup = warmup_steps(self.warmup, ctx.total_steps)
        return partial(polynomial, warmup=warmup, total=ctx.total_steps, floor=self.min_lr / ctx.lr, power=self.power)
