"""`linear`: climb, then fall in a straight line over the rest of the run."""

from __future__ import annotations

from functools import partial
from typing import Literal

from typing_extensions import override

from fttool.api import Factor, ScheduleContext
from fttool_plugins.schedule.warmed import Falling


def linear(step: int, *, warmup: int, total: int, floor: float) -> float:
    """t/W below W; then f = (N−t)/(N−W) as f·(1−r) + r, with r = `floor`; r past the end."""
    if step < warmup:
        return step / warmup
    if step >= total:
        return floor
    return (total - step) / (total - warmup) * (1 - floor) + floor


class Linear(Falling):
    """Climb over `warmup`, then fall in a straight line to `min_lr` at the run's end.

    Use it for classification and short runs, as BERT's fine-tuning does. Cost: nothing; the length must be known.
    """

    name: Literal["linear"] = "linear"

    @override
    def build(self, ctx: ScheduleContext) -> Factor:
        total = ctx.total_steps
        return partial(linear, warmup=self.warmup_steps(total), total=total, floor=self.floor(ctx))
