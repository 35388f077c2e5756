"""`acme.trapezoid`: climb, hold, fall."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Literal

from fttool.api import Factor, Fraction, Problem, Schedule, ScheduleContext, to_steps

if TYPE_CHECKING:
    from fttool.api import Recipe


def trapezoid(step: int, *, climb: int, fall: int, total: int) -> float:
    """The factor of update `step` (from 0): (t+1)/climb, then 1, then (total−t)/fall, which is 0 past the end."""
    left = max(total - step, 0)
    return min((step + 1) / climb if step < climb else 1.0, left / fall if left < fall else 1.0)


class Trapezoid(Schedule):
    """Climb, hold, then fall in a straight line to zero."""

    name: Literal["acme.trapezoid"] = "acme.trapezoid"
    climb: Fraction = 0.1
    """Share of the run spent climbing."""
    fall: Fraction = 0.3
    """Share of the run spent falling."""

    def check(self, recipe: Recipe) -> Iterable[Problem]:
        """Refuse a climb and a fall that overlap."""
        if self.climb + self.fall > 1:
            yield Problem("climb and fall are longer than the run", key=("schedule", "fall"), hint="shorten one")

    def build(self, ctx: ScheduleContext) -> Factor:
        """Yield the factor of each update."""
        total = ctx.total_steps
        return partial(trapezoid, climb=to_steps(self.climb, total), fall=to_steps(self.fall, total), total=total)
