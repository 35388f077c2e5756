"""`cosine`: climb, then fall along half a cosine over the rest of the run (arXiv 1608.03983)."""

from __future__ import annotations

import math
from functools import partial
from typing import Literal

from typing_extensions import override

from fttool.api import Factor, ScheduleContext
from fttool_plugins.schedule.warmed import Falling


def cosine(step: int, *, warmup: int, total: int, floor: float) -> float:
    """t/W below W; then f = ½(1 + cos π(t−W)/(N−W)) as f·(1−r) + r, with r = `floor`; r past the end."""
    if step < warmup:
        return step / warmup
    if step >= total:
        return floor
    fall = 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))
    return fall * (1 - floor) + floor


class Cosine(Falling):
    """Climb over `warmup`, then fall along half a cosine to `min_lr` at the run's end (arXiv 1608.03983).

    Use it for a run whose length is known; the usual choice for SFT. Cost: nothing; the length must be known.
    """

    name: Literal["cosine"] = "cosine"

    @override
    def build(self, ctx: ScheduleContext) -> Factor:
        total = ctx.total_steps
        return partial(cosine, warmup=self.warmup_steps(total), total=total, floor=self.floor(ctx))
