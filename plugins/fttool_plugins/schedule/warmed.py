"""What schedules share: a climb from rate 0 to begin with, and a rate below which they do not fall.

While the climb lasts the factor of step t (from 0) is t/W, transformers' convention: the very first step has rate 0.
The lowest rate is given in the unit of `optimizer.lr`. As a share of the peak it holds for every group, whatever the
group's own rate: a group at half the rate ends at half of `min_lr`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

from pydantic import Field
from typing_extensions import override

from fttool.api import Problem, RecipeError, Schedule, ScheduleContext, ShareOrSteps, to_steps

if TYPE_CHECKING:
    from fttool.api import Recipe

HINT = "a value below 1 is a share of the run: warmup = 0.06"


class Warmed(Schedule):
    """A schedule that begins with a climb; it has no `name` and so is not a strategy by itself."""

    warmup: ShareOrSteps = 0.06
    """Climb from rate 0, which is the first step's: a share of the run below 1, steps from 1 on."""

    @override
    def check(self, recipe: Recipe) -> Iterable[Problem]:
        """Refuse a climb that is longer than the run, where the recipe says how long the run is."""
        total = recipe.run.max_steps
        if total is not None and to_steps(self.warmup, total) > total:
            message = f"warmup is {to_steps(self.warmup, total)} steps, and run.max_steps is {total}"
            yield Problem(message, key=("schedule", "warmup"), hint=HINT)

    def warmup_steps(self, total: int) -> int:
        """W of a run of `total` steps; raises `RecipeError` where the climb is longer than the run."""
        steps = to_steps(self.warmup, total)
        if steps > total:
            message = f"schedule.warmup is {steps} steps, and the run has {total}"
            raise RecipeError(Problem(message, hint=HINT, key=("schedule", "warmup")))
        return steps


class Falling(Warmed):
    """A schedule that falls from the peak to a lowest rate; without a `name` too."""

    min_lr: Annotated[float, Field(ge=0)] = 0.0
    """Rate at the end, in the unit of `optimizer.lr`; a group with another rate ends at that share of it."""

    @override
    def check(self, recipe: Recipe) -> Iterable[Problem]:
        """Refuse a climb that is longer than the run and an end above the peak."""
        yield from super().check(recipe)
        yield from check_floor(self.min_lr, recipe)

    def floor(self, ctx: ScheduleContext) -> float:
        """`min_lr` as a factor of the peak rate."""
        return self.min_lr / ctx.lr


def check_floor(min_lr: float, recipe: Recipe) -> Iterable[Problem]:
    """A problem where the schedule would end above the peak."""
    peak = recipe.optimizer.lr
    if min_lr > peak:
        hint = f"set a min_lr below {peak:g}; a tenth of the peak is usual"
        yield Problem(f"min_lr {min_lr:g} is above optimizer.lr {peak:g}", key=("schedule", "min_lr"), hint=hint)
