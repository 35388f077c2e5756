"""`exponential`: climb by the same factor in every update, as a range test does to find a learning rate."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import override

from fttool.api import Factor, Schedule, ScheduleContext


def exponential(step: int, *, total: int, start: float) -> float:
    """s^(1 − t/(N−1)), from s = `start` in the first update to 1 in the last; 1 past the end."""
    return start ** (1 - min(step / max(1, total - 1), 1.0))


class Exponential(Schedule):
    """Climb from a small share of the peak to the peak, by the same factor in every update.

    Use it to see at which rates the loss falls and rises: `fttool find-lr` runs it and reads the result. Cost: the
    model that comes out has seen rates that are too high, so it is not one to keep. Smith 2017, arXiv 1506.01186.
    """

    name: Literal["exponential"] = "exponential"
    start: Annotated[float, Field(gt=0, le=1)] = 1e-5
    """Rate of the first update, as a share of the peak."""

    @override
    def build(self, ctx: ScheduleContext) -> Factor:
        return partial(exponential, total=ctx.total_steps, start=self.start)
