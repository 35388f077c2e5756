"""`slanted-triangular`: a short climb and a long fall, both straight (ULMFiT, arXiv 1801.06146).

The paper's cut_frac is `warmup`, rounded up where the paper rounds down. Its rate (1 + p·(ratio − 1))/ratio, with p
from 0 over 1 back to 0, is p·(1 − r) + r with r = 1/ratio: a floor at both ends.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field
from typing_extensions import override

from fttool.api import Factor, Problem, ScheduleContext, ShareOrSteps
from fttool_plugins.schedule.warmed import Warmed, check_floor

if TYPE_CHECKING:
    from fttool.api import Recipe

RATIO = 32.0
"""The paper's, where the recipe does not say."""


def slanted_triangular(step: int, *, warmup: int, total: int, floor: float) -> float:
    """p·(1−r) + r with r = `floor`, p = t/W below W and (N−t)/(N−W) from there; r past the end."""
    if step >= total:
        return floor
    share = step / warmup if step < warmup else (total - step) / (total - warmup)
    return share * (1 - floor) + floor


class SlantedTriangular(Warmed):
    """Climb from a floor to the peak over `warmup`, then fall back by the run's end (ULMFiT, arXiv 1801.06146).

    Use it with `gradual` and `discriminative`, as ULMFiT does. Cost: nothing; the length must be known.
    """

    name: Literal["slanted-triangular"] = "slanted-triangular"
    warmup: ShareOrSteps = 0.1
    """The climb, the paper's cut_frac: a share of the run below 1, steps from 1 on."""
    ratio: Annotated[float, Field(ge=1)] | None = None
    """The peak over the rate at both ends; unit-free. Default: 32, where `min_lr` is not set either."""
    min_lr: Annotated[float, Field(ge=0)] | None = None
    """Rate at both ends in the unit of `optimizer.lr`, in place of `ratio`; a group has its share of it."""

    @override
    def check(self, recipe: Recipe) -> Iterable[Problem]:
        """Refuse a climb that is longer than the run, ends above the peak, and ends said in two ways."""
        yield from super().check(recipe)
        yield from check_floor(self.min_lr or 0.0, recipe)
        if self.ratio is not None and self.min_lr is not None:
            message = "both schedule.ratio and schedule.min_lr say what the rate is at both ends"
            yield Problem(message, key=("schedule", "ratio"), hint="keep one")

    @override
    def build(self, ctx: ScheduleContext) -> Factor:
        warmup = self.warmup_steps(ctx.total_steps)
        floor = 1 / (self.ratio or RATIO) if self.min_lr is None else self.min_lr / ctx.lr
        return partial(slanted_triangular, warmup=warmup, total=ctx.total_steps, floor=floor)
