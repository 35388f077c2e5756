"""`wsd`: climb, hold the peak, and decay only at the end (MiniCPM, arXiv 2404.06395).

The stretch in the middle does not depend on the run's length. Decaying over the last 10% of the steps is
enough and 2.5% is not (2404.06395); 1-sqrt beats a straight line (Hägele et al. 2024, arXiv 2405.18392).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeAlias

from typing_extensions import override

from fttool.api import Factor, Problem, RecipeError, ScheduleContext, ShareOrSteps, to_steps
from fttool_plugins.schedule.warmed import Falling

if TYPE_CHECKING:
    from fttool.api import Recipe

Shape: TypeAlias = Literal["linear", "cosine", "1-sqrt"]

SHAPES: dict[Shape, Callable[[float], float]] = {
    "linear": lambda u: 1 - u,
    "cosine": lambda u: 0.5 * (1 + math.cos(math.pi * u)),
    "1-sqrt": lambda u: 1 - math.sqrt(u),
}
"""Share u of the decay that is over, from 0 to 1 → what is left of the fall, from 1 to 0."""


def wsd(step: int, *, warmup: int, decay: int, total: int, floor: float, shape: Shape) -> float:
    """t/W below W; 1 up to N−D; then f(u) of u = (t−N+D)/D as f·(1−r) + r, r = `floor`; r past the end."""
    if step < warmup:
        return step / warmup
    since = step - (total - decay)
    if since <= 0 or decay == 0:
        return 1.0
    return SHAPES[shape](min(since / decay, 1.0)) * (1 - floor) + floor


class WarmupStableDecay(Falling):
    """Climb over `warmup`, hold the peak, and fall to `min_lr` over the last `decay` (arXiv 2404.06395).

    `fttool decay` branches off a run of it; with `warmup` in steps it can be made longer when resumed.

    Use it where the length may change: a run goes on from its stable phase, and decays from any of its checkpoints.
    Cost: nothing; `[checkpoints] keep_stable` costs disk.
    """

    name: Literal["wsd"] = "wsd"
    decay: ShareOrSteps = 0.1
    """Length of the fall: a share of the run below 1, steps from 1 on; 0.1 suffices (2404.06395)."""
    shape: Shape = "1-sqrt"
    """How it falls over u from 0 to 1: 1−u, ½(1+cos πu), or 1−√u, the best in 2405.18392."""

    @override
    def check(self, recipe: Recipe) -> Iterable[Problem]:
        """Refuse phases that are longer than the run, an end above the peak, and a decay of one update."""
        yield from super().check(recipe)
        total = recipe.run.max_steps
        if self.decay == 1:
            message = "a decay of 1 update lowers no rate: its first update still has the full rate"
            yield Problem(
                message, key=("schedule", "decay"), hint="use 2 or more; below 1 it is a share of the run: 0.1"
            )
        if self.warmup < 1 and self.decay < 1 and self.warmup + self.decay > 1:
            message = f"warmup {self.warmup:g} and decay {self.decay:g} of the run are more than all of it"
            yield Problem(message, key=("schedule", "decay"), hint="shorten one; 0.06 and 0.1 are usual")
        elif total is not None and to_steps(self.warmup, total) <= total:
            try:
                self.phases(total)
            except RecipeError as error:
                problem = error.problems[0]
                yield Problem(problem.message, key=("schedule", "decay"), hint=problem.hint)

    def phases(self, total: int) -> tuple[int, int]:
        """W and D of a run of `total` steps; raises `RecipeError` where they are longer than the run.

        Two shares that fit may be a step too long when both are rounded up; the decay gives way.
        """
        climb, fall = self.warmup_steps(total), to_steps(self.decay, total)
        if self.warmup < 1 and self.decay < 1 and self.warmup + self.decay <= 1:
            fall = min(fall, total - climb)
        if climb + fall > total:
            message = f"schedule.warmup is {climb} steps and schedule.decay {fall}, and the run has {total}"
            hint = "shorten one: values below 1 are shares of the run"
            raise RecipeError(Problem(message, hint=hint, key=("schedule", "decay")))
        return climb, fall

    @override
    def build(self, ctx: ScheduleContext) -> Factor:
        climb, fall = self.phases(ctx.total_steps)
        floor = self.floor(ctx)
        return partial(wsd, warmup=climb, decay=fall, total=ctx.total_steps, floor=floor, shape=self.shape)
