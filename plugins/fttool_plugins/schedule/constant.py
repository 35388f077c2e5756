"""`constant`: the peak rate all the way, after a climb if asked for."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Literal

from fttool.api import Factor, Problem, Schedule, ScheduleContext, ShareOrSteps
from fttool_plugins.schedule.warmup import check_warmup, warmup_steps

if TYPE_CHECKING:
    from fttool.api import Recipe


def constant(step: int, *, warmup: int) -> float:
    """t/W below W, then 1."""
    return step / warmup if step < warmup else 1.0


class Constant(Schedule):
    """The peak rate all the way, after a climb of `warmup`.

    With the climb in steps, or without one, a run can be made longer when resumed; `fttool decay` can end it anywhere.

    Use it with `ema`, for very short runs, or to look at rates. Cost: nothing; the last updates are as noisy as the
    first.
    """

    name: Literal["constant"] = "constant"
    warmup: ShareOrSteps = 0.0
    """Climb from rate 0, which is the first step's: a share of the run below 1, steps from 1 on."""

    def check(self, recipe: Recipe) -> Iterable[Problem]:
        """Refuse a climb that is longer than the run."""
        return check_warmup(self.warmup, recipe)

    def build(self, ctx: ScheduleContext) -> Factor:
        """Yield `constant`."""
        return partial(constant, warmup=warmup_steps(self.warmup, ctx.total_steps))
