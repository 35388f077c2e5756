"""A learning curve: how the score rises with the rows, and what twice as many would bring.

Each doubling of the rows is taken to bring a constant share of what the doubling before it brought, as it is where the
score follows a power law (Hestness et al. 2017, arXiv 1712.00409).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

PARTS = (8, 4, 2)
"""An eighth, a quarter and half of the rows."""


@dataclass(frozen=True, slots=True)
class Point:
    """The score after learning from so many rows."""

    rows: int
    score: float


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is to be expected of more rows, as scores."""

    all: float
    """Of all rows."""
    twice: float
    """Of twice as many."""

    @property
    def brings(self) -> float:
        """What twice as many rows change."""
        return self.twice - self.all


def outlook(points: Sequence[Point]) -> Outlook | None:
    """By the points of an eighth, a quarter and half of the rows; None where one is missing.

    The share is kept between 0 (no further gain) and 1 (as much with each doubling, as on a logarithmic axis): two
    doublings say no more than that.
    """
    if len(points) != len(PARTS):
        return None
    first, second = (after.score - before.score for before, after in itertools.pairwise(points))
    share = min(1.0, max(0.0, second / first)) if first else 0.0
    whole = points[-1].score + share * second
    return Outlook(whole, whole + share * share * second)
