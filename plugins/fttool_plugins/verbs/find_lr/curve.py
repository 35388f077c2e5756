"""What the losses of a range test say: where they fall fastest, where they rise, and which rate to begin with.

The rate climbs by the same factor in each update, so the places of the losses are the logarithm of the rate. A loss is
compared only after it was smoothed: each update has other rows, and theirs differ by more than what one update learns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

FAR = 10.0
"""How far below the rate of the lowest loss a rate is at which a whole run does well, by custom: at the lowest itself
the good that an update does is undone by the next one's."""
OF_A_NORMAL = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""
SURE = 3.0
"""Standard errors that a change of the loss must have to count as one."""


@dataclass(frozen=True, slots=True)
class Point:
    """A loss, and the rate of the last update before it was measured."""

    lr: float
    loss: float


@dataclass(frozen=True, slots=True)
class Found:
    """What was read."""

    points: Sequence[Point]
    smoothed: Sequence[float]
    """The loss at each of them, by a straight line through its neighbours."""
    noise: float
    """Standard deviation of a loss around it."""
    start: float
    """The loss before anything was learned."""
    steepest: int | None
    """Place of the point where it falls fastest; None where it does not fall by more than its noise."""
    lowest: int | None
    """Where it is lowest; None as above."""
    diverging: float | None
    """The first rate that undoes what was learned: the loss is above `start` again, or not finite. None: none does."""

    @property
    def suggestion(self) -> float | None:
        """A tenth of the rate at which the loss was lowest, to two digits: more would claim what was not measured."""
        return None if self.lowest is None else float(f"{self.points[self.lowest].lr / FAR:.1e}")

    @property
    def still_falling(self) -> bool:
        """The loss was lowest where the test ended: higher rates were not tried."""
        return self.diverging is None and self.lowest is not None and self.lowest >= len(self.points) - 2 * self.reach

    @property
    def reach(self) -> int:
        """Neighbours on each side that a loss was smoothed by."""
        return reach_of(len(self.points))


def reach_of(count: int) -> int:
    """A fifteenth of the points, three at least."""
    return max(3, round(count / 15))


def read_curve(points: Sequence[Point], blown_up: float | None = None) -> Found:
    """Read the losses of at least ten updates; `blown_up` is the rate after which one was not finite."""
    losses = [point.loss for point in points]
    reach = reach_of(len(points))
    lines = [_line(losses, place, reach) for place in range(len(losses))]
    smoothed = [height for height, _ in lines]
    inner = range(reach, len(losses) - reach)  # nearer to the ends, chance counts for twice as much
    lowest = min(inner, key=smoothed.__getitem__)
    noise = OF_A_NORMAL * median(abs(losses[place] - smoothed[place]) for place in range(lowest + 1))
    clear = SURE * noise * math.sqrt(2 / (2 * reach + 1))
    start = smoothed[reach]
    after = (place for place in range(lowest + 1, len(losses)) if smoothed[place] > start + clear)
    undone = next(after, None)
    fell = start - smoothed[lowest] > clear
    return Found(
        points=points,
        smoothed=smoothed,
        noise=noise,
        start=start,
        steepest=min(range(reach, lowest + 1), key=lambda place: lines[place][1]) if fell else None,
        lowest=lowest if fell else None,
        diverging=blown_up if undone is None else points[undone].lr,
    )


def _line(values: Sequence[float], place: int, reach: int) -> tuple[float, float]:
    """Height at `place` and slope of the least-squares line through the values within `reach` of it."""
    near = range(max(0, place - reach), min(len(values), place + reach + 1))
    middle, height = fmean(near), fmean(values[at] for at in near)
    spread = sum((at - middle) ** 2 for at in near)
    slope = sum((at - middle) * (values[at] - height) for at in near) / spread if spread else 0.0
    return height + slope * (place - middle), slope


class Runaway:
    """Notices while the test runs that the loss has risen beyond doubt, so that the rest need not be run."""

    RISE = 2.0
    """Times the first losses, over as many updates as they are."""
    FIRST = 5

    def __init__(self) -> None:
        self.losses: list[float] = []

    def over(self, loss: float) -> bool:
        """Take one more loss; True where the latest are all far above the first ones."""
        self.losses.append(loss)
        first, latest = self.losses[: self.FIRST], self.losses[-self.FIRST :]
        return len(self.losses) > 2 * self.FIRST and min(latest) > self.RISE * fmean(first)
