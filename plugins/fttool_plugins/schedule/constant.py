"""`constant`: the peak rate all the way, after a climb if asked for."""

from __future__ import annotations

from functools import partial
from typing import Literal

from typing_extensions import override

from fttool.api import Factor, ScheduleContext, ShareOrSteps
from fttool_plugins.schedule.warmed import Warmed


def constant(step: int, *, warmup: int) -> float:
    """t/W below W, then 1."""
    return step / warmup if step < warmup else 1.0


class Constant(Warmed):
    """The peak rate all the way, after a climb of `warmup`.

    With the climb in steps, or without one, a run can be made longer when resumed; `fttool decay` can end it anywhere.

    Use it with `ema`, for very short runs, or to look at rates. Cost: nothing; the last updates are as noisy as the
    first.
    """

    name: Literal["constant"] = "constant"
    warmup: ShareOrSteps = 0.0

    @override
    def build(self, ctx: ScheduleContext) -> Factor:
        return partial(constant, warmup=self.warmup_steps(ctx.total_steps))
