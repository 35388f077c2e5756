"""The rate at which falling schedules end, given in the recipe as `min_lr` in the unit of `optimizer.lr`.

As a share of the peak it holds for every group, whatever the group's own rate: a group at half the rate ends
at half of `min_lr`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from fttool.api import Problem

if TYPE_CHECKING:
    from fttool.api import Recipe


def check_floor(min_lr: float, recipe: Recipe) -> Iterable[Problem]:
    """A problem where the schedule would end above the peak."""
    peak = recipe.optimizer.lr
    if min_lr > peak:
        hint = f"set a min_lr below {peak:g}; a tenth of the peak is usual"
        yield Problem(f"min_lr {min_lr:g} is above optimizer.lr {peak:g}", key=("schedule", "min_lr"), hint=hint)
