"""Updates at which a run's loss or gradient norm stands out from those around it, from `metrics.jsonl`.

Both fall over a run, and the noise with them, so what counts is the ratio to what was usual then: the logarithm's
distance from a line through its neighbours that a few of them cannot bend (the median of all slopes between two; Sen,
1968, "Estimates of the Regression Coefficient Based on Kendall's Tau"). It is given in units of the usual distance,
1.4826 times the median absolute one, which is the standard deviation where they are normal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median
from typing import Any

from fttool_plugins.verbs.compare.past import number

CURVES = {"loss": "loss", "gradient norm": "grad_norm"}
"""What may stand out, and its key in `metrics.jsonl`."""
AROUND = 5
"""Lines before and after one that it is compared with."""
CLEAR = 3.5
"""From here on a spike is called one (Iglewicz and Hoaglin, 1993, "How to Detect and Handle Outliers")."""
LEAST = 0.001
"""The usual distance is taken for no less than this ratio: in a curve without noise anything stands out."""
TINY = 1e-12
"""What a value of 0 counts as, of which there is no logarithm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spike:
    """A value that stands out, or stands out most."""

    updates: range
    """Those that it may come from: a line of `metrics.jsonl` has the mean loss since the line before."""
    what: str
    """`loss` or `gradient norm`."""
    value: float
    usual: float
    """What its neighbours let expect."""
    distance: float
    """How far its logarithm lies above that, in usual distances; infinite where the value is not finite."""


def worst(lines: Sequence[Mapping[str, Any]], most: int) -> list[Spike]:
    """Of a run's lines, by update, so many that stand out most in the loss, and as many in the norm, the worst first.

    A row that is short or contradicts the others may move one of the two alone.
    """
    logged = [line for line in lines if number(line.get("loss")) is not None]
    found = [spike for what in CURVES for spike in _standing_out(logged, what)[:most]]
    return sorted(found, key=lambda spike: -spike.distance)


def _standing_out(logged: Sequence[Mapping[str, Any]], what: str) -> list[Spike]:
    """A spike for each line that has this value, the worst first."""
    steps, values = [int(line["step"]) for line in logged], [_value(line, CURVES[what]) for line in logged]
    found: list[Spike] = []
    for place, (usual, distance) in enumerate(distances(values)):
        # The norm that is logged is that of the last update alone.
        first = steps[place - 1] + 1 if what == "loss" and place else steps[place]
        updates = range(min(first, steps[place]), steps[place] + 1)
        found.append(Spike(updates=updates, what=what, value=values[place], usual=usual, distance=distance))
    return sorted((spike for spike in found if spike.distance > -math.inf), key=lambda spike: -spike.distance)


def distances(values: Sequence[float]) -> list[tuple[float, float]]:
    """For each value what was usual around it, and how far it lies above that, in usual distances.

    That of a value which is infinite is too; that of one which is not there (NaN) is below all others.
    """
    logs = [math.log(max(value, TINY)) if not math.isnan(value) else value for value in values]
    usual = [_expected(logs, place) for place in range(len(logs))]
    away = [value - middle for value, middle in zip(logs, usual, strict=True)]
    finite = [abs(one) for one in away if math.isfinite(one)]
    unit = max(1.4826 * median(finite) if finite else 0.0, LEAST)
    return [
        (math.exp(middle), -math.inf if math.isnan(one) else one / unit)
        for middle, one in zip(usual, away, strict=True)
    ]


def _expected(values: Sequence[float], place: int) -> float:
    """What the line through a value's neighbours says of it; the value itself where there are none."""
    around = range(max(0, place - AROUND), min(len(values), place + AROUND + 1))
    near = [(other - place, values[other]) for other in around if other != place and math.isfinite(values[other])]
    slopes = [(b - a) / (right - left) for (left, a), (right, b) in combinations(near, 2)]
    slope = median(slopes) if slopes else 0.0
    return median(value - slope * away for away, value in near) if near else values[place]


def _value(line: Mapping[str, Any], key: str) -> float:
    """What a line has: infinity for what is not finite, NaN for what is not there."""
    value = number(line.get(key))
    return math.nan if value is None else value if math.isfinite(value) else math.inf
