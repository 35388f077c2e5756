"""`inverse-sqrt`: climb, then fall as one over the root of the update's number (arXiv 1706.03762).

The run's length does not appear in it, so a run can go on for as long as one likes. In the form of Zhai et al. 2022
(arXiv 2106.04560) the fall has a time scale of its own, which is the warmup's length where nobody says otherwise.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import override

from fttool.api import Factor, ScheduleContext, ShareOrSteps
from fttool_plugins.schedule.warmed import Falling

TIMESCALE = 10_000
"""Updates of the fall's time scale where there is no climb to take it from, as in transformers."""


def inverse_sqrt(step: int, *, warmup: int, total: int, floor: float, timescale: int) -> float:
    """t/W below W; then √(T/(T+t−W)) with T = `timescale`, at least `floor`; what it is at `total` past the end."""
    if step < warmup:
        return step / warmup
    since = min(step, total) - warmup
    return max(math.sqrt(timescale / (timescale + since)), floor)


class InverseSqrt(Falling):
    """Climb over `warmup`, then fall as √(T/(T+t−W)) but not below `min_lr` (arXiv 1706.03762).

    With T = W this is √(W/t). A run with its warmup in steps can be made longer when resumed.

    Use it where the length is not known, and in recipes of T5 and its kin. Cost: nothing; rates never reach zero.
    """

    name: Literal["inverse-sqrt"] = "inverse-sqrt"
    warmup: ShareOrSteps = 0.06
    """W, the climb from rate 0, which is the first step's: a share of the run below 1, steps from 1 on."""
    timescale: Annotated[int, Field(ge=1)] | None = None
    """T, in steps: after 3·T more the rate is half of the peak; default: the warmup's, or 10,000 without one."""
    min_lr: Annotated[float, Field(ge=0)] = 0.0
    """Lowest rate, in the unit of `optimizer.lr`; a group with another rate has that share of it."""

    @override
    def build(self, ctx: ScheduleContext) -> Factor:
        warmup = self.warmup_steps(ctx.total_steps)
        timescale = self.timescale or warmup or TIMESCALE
        return partial(inverse_sqrt, warmup=warmup, total=ctx.total_steps, floor=self.floor(ctx), timescale=timescale)
