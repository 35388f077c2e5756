"""`acme.drops`: full speed, then a tenth of it, then a hundredth."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Literal

from pydantic import Field

from fttool.api import Factor, Schedule, ScheduleContext, ShareOrSteps, to_steps


class Drops(Schedule):
    """The rate is constant, and drops by `factor` at each of some points of the run (He et al. 2015, arXiv 1512.03385).

    With points in updates, a run can be made longer from any of its checkpoints.
    """

    name: Literal["acme.drops"] = "acme.drops"
    at: Annotated[tuple[ShareOrSteps, ...], Field(min_length=1)] = (0.5, 0.75)
    """Where it drops: shares of the run, or updates."""
    factor: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Rate after a drop over that before it."""

    def build(self, ctx: ScheduleContext) -> Factor:
        """Yield the factor of each update."""
        points = [to_steps(point, ctx.total_steps) for point in self.at]
        return partial(drops, points=points, factor=self.factor, total=ctx.total_steps)


def drops(step: int, *, points: Sequence[int], factor: float, total: int) -> float:
    """factor^k, where k of the points are at or before update `step` (from 0)."""
    return factor ** sum(point <= min(step, total - 1) for point in points)
