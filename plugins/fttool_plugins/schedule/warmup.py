"""The climb from rate 0 with which schedules begin: its length in steps, and what can be wrong with it.

While it lasts the factor of step t (from 0) is t/W, transformers' convention: the very first step has rate 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from fttool.api import Problem, RecipeError, to_steps

if TYPE_CHECKING:
    from fttool.api import Recipe

HINT = "a value below 1 is a share of the run: warmup = 0.06"


def warmup_steps(warmup: float, total: int) -> int:
    """W of a run of `total` steps; raises `RecipeError` where the climb is longer than the run."""
    steps = to_steps(warmup, total)
    if steps > total:
        message = f"schedule.warmup is {steps} steps, and the run has {total}"
        raise RecipeError(Problem(message, hint=HINT, key=("schedule", "warmup")))
    return steps


def check_warmup(warmup: float, recipe: Recipe) -> Iterable[Problem]:
    """A problem where the recipe says how long the run is, and the climb is longer."""
    total = recipe.run.max_steps
    if total is not None and to_steps(warmup, total) > total:
        message = f"warmup is {to_steps(warmup, total)} steps, and run.max_steps is {total}"
        yield Problem(message, key=("schedule", "warmup"), hint=HINT)
