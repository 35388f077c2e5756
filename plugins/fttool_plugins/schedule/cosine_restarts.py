"""`cosine-restarts`: climb once, then fall along half a cosine again and again (SGDR, arXiv 1608.03983).

A cycle that is over starts anew at the peak. Cycles may grow by a factor, as in the paper (T_mult = 2). They are given
either as a number that fills the run, or as the first one's length; in steps that does not depend on the run's length.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field
from typing_extensions import override

from fttool.api import Factor, PositiveShareOrSteps, Problem, ScheduleContext, to_steps
from fttool_plugins.schedule.warmed import Falling

if TYPE_CHECKING:
    from fttool.api import Recipe

CYCLES = 4
"""How many there are where the recipe does not say."""


def cosine_restarts(step: int, *, warmup: int, starts: Sequence[float], total: int, floor: float) -> float:
    """t/W below W; then f = ½(1 + cos πu) as f·(1−r) + r, u the share of t's cycle that is over, r = `floor`.

    Cycle i goes from `starts[i]` to `starts[i+1]`. Past the end it stays what it is at `total`, where a cycle that is
    over does not start anew.
    """
    if step < warmup:
        return step / warmup
    find = bisect_right if step < total else bisect_left
    cycle = max(find(starts, min(step, total)) - 1, 0)
    begun, length = starts[cycle], starts[cycle + 1] - starts[cycle]
    share = (min(step, total) - begun) / length if length else 1.0
    return 0.5 * (1 + math.cos(math.pi * share)) * (1 - floor) + floor


def by_number(cycles: int, multiplier: float, warmup: int, total: int) -> list[float]:
    """Where `cycles` cycles that fill the run begin, and its end; in between two updates where it is not even."""
    ends = list(accumulate(multiplier ** (index + 1 - cycles) for index in range(cycles)))  # the last has length 1
    return [warmup, *(_whole(warmup + (total - warmup) * end / ends[-1]) for end in ends)]


def by_length(first: int, multiplier: float, warmup: int, total: int) -> list[float]:
    """Where cycles begin of which the first has `first` updates, up to the end of the one in which the run ends."""
    starts, length = [float(warmup)], float(first)
    while starts[-1] < total or len(starts) < 2:
        starts.append(_whole(starts[-1] + length))
        length *= multiplier
    return starts


def _whole(start: float) -> float:
    """A start that is an update but for rounding: else a cycle would end there that should begin."""
    nearest = round(start)
    return nearest if abs(start - nearest) < 1e-9 * max(start, 1) else start


class CosineRestarts(Falling):
    """Climb over `warmup`, then fall along half a cosine to `min_lr`, several times over (SGDR, arXiv 1608.03983).

    A run with `warmup` and `first` in steps can be made longer when resumed.

    Use it to have several models from one run, each at the end of a cycle. Cost: the rise of each restart, which
    forgets some of what was reached.
    """

    name: Literal["cosine-restarts"] = "cosine-restarts"
    cycles: Annotated[int, Field(ge=1)] | None = None
    """How many there are; they fill the run after the climb. Default: 4, where `first` is not set either."""
    first: PositiveShareOrSteps | None = None
    """Length of the first one instead: a share of the run below 1, steps from 1 on; the last may stay unfinished."""
    multiplier: Annotated[float, Field(ge=1)] = 1.0
    """How many times as long as the one before a cycle is; 2 in the paper."""
    min_lr: Annotated[float, Field(ge=0)] = 0.0
    """Rate at the end of a cycle, in the unit of `optimizer.lr`; a group with another rate has that share of it."""

    @override
    def check(self, recipe: Recipe) -> Iterable[Problem]:
        """Refuse a climb that is longer than the run, an end above the peak, and cycles said in two ways."""
        yield from super().check(recipe)
        if self.first is not None and self.cycles is not None:
            message = "both schedule.cycles and schedule.first say how long a cycle is"
            yield Problem(message, key=("schedule", "cycles"), hint="keep one")

    @override
    def build(self, ctx: ScheduleContext) -> Factor:
        total = ctx.total_steps
        warmup = self.warmup_steps(total)
        if self.first is None:
            starts = by_number(self.cycles or CYCLES, self.multiplier, warmup, total)
        else:
            starts = by_length(to_steps(self.first, total), self.multiplier, warmup, total)
        return partial(cosine_restarts, warmup=warmup, starts=starts, total=total, floor=self.floor(ctx))
