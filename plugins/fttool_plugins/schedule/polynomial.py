"""`polynomial`: climb, then fall along a power of what is left of the run."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import override

from fttool.api import Factor, ScheduleContext
from fttool_plugins.schedule.warmed import Falling


def polynomial(step: int, *, warmup: int, total: int, floor: float, power: float) -> float:
    """t/W below W; then f = ((N−t)/(N−W))^p as f·(1−r) + r, with r = `floor`; r past the end."""
    if step < warmup:
        return step / warmup
    if step >= total:
        return floor
    return ((total - step) / (total - warmup)) ** power * (1 - floor) + floor


class Polynomial(Falling):
    """Climb over `warmup`, then fall along a power of what is left, to `min_lr` at the run's end.

    A power of 1 is `linear`; above 1 most of the fall comes early, below 1 it comes late.

    Use it where a recipe that is to be reproduced has it. Cost: nothing; the length must be known.
    """

    name: Literal["polynomial"] = "polynomial"
    power: Annotated[float, Field(gt=0)] = 2.0
    """p in ((N−t)/(N−W))^p; unit-free."""

    @override
    def build(self, ctx: ScheduleContext) -> Factor:
        warmup = self.warmup_steps(ctx.total_steps)
        return partial(polynomial, warmup=warmup, total=ctx.total_steps, floor=self.floor(ctx), power=self.power)
