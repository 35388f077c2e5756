"""The run of a range test: a few updates of the recipe under a rate that climbs, thrown away with its weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fttool.api import ExitCode, FttoolError, UsageError, show
from fttool.verbs import Loaded, short_run, with_overrides
from fttool_plugins.schedule.exponential import exponential
from fttool_plugins.verbs.find_lr.curve import Found, Point, Runaway, read_curve
from fttool_plugins.verbs.temporary import temporary
from fttool_plugins.verbs.updates_alone import updates_alone

BELOW, ABOVE = 100.0, 1000.0
"""How far below and above the recipe's rate the test goes by default."""
HIGHEST = 9.0
"""The highest rate that it goes to by itself; `optimizer.lr` must be below 10."""
FEWEST = 10
"""Updates of the shortest test: fewer say nothing that is not noise."""


@dataclass(frozen=True, slots=True)
class Climb:
    """From which rate to which, in how many updates."""

    low: float
    high: float
    updates: int

    def rate(self, update: int) -> float:
        """`optimizer.lr` times the schedule's factor, of an update from 1 on; 0 stands for before the first."""
        return self.high * exponential(update - 1, total=self.updates, start=self.low / self.high)


def climb_of(loaded: Loaded, low: float | None, high: float | None, updates: int) -> Climb:
    """The climb that was asked for; around the recipe's own rate where it was not said."""
    own = loaded.recipe.optimizer.lr
    climb = Climb(low=low or own / BELOW, high=high or min(own * ABOVE, HIGHEST), updates=updates)
    if climb.low >= climb.high:
        message = f"the test would climb from {climb.low:g} to {climb.high:g}, which is not above it"
        raise UsageError(message, hint="give both ends: --from 1e-7 --to 1")
    if updates < FEWEST:
        raise UsageError(f"{updates} updates are too few to see more than noise", hint=f"--updates {FEWEST} or more")
    return climb


def range_test(loaded: Loaded, climb: Climb, *, quiet: bool) -> Found:
    """Run it, and read its losses.

    Raises:
        FttoolError: the one that `fttool run` would print; `UsageError` for a recipe of several processes.
    """
    if loaded.recipe.sharding.world_size > 1:
        message = f"the recipe is for {loaded.recipe.sharding.world_size} processes, and this runs in one"
        raise UsageError(message, hint="--set sharding=none; the rates are the same, as an update has the same rows")
    points: list[Point] = []
    runaway, blown_up = Runaway(), None

    def heard(step: int, values: Mapping[str, Any]) -> bool:
        loss = values.get("loss")
        if loss is None or not math.isfinite(loss):
            return False
        points.append(Point(lr=climb.rate(step - 1), loss=loss))  # it shows what the updates before did
        if not quiet and step % max(1, climb.updates // 10) == 0:
            show(f"  {step:>4}/{climb.updates}  lr {climb.rate(step):.1e}  loss {loss:.4f}", error=True)
        return runaway.over(loss)

    with temporary("find-lr") as folder:
        try:
            short_run(_climbing(loaded, climb, folder), heard)
        except FttoolError as error:
            if error.exit_code != ExitCode.DIVERGED or len(points) < FEWEST:
                raise
            blown_up = climb.rate(len(points))
    return read_curve(points, blown_up)


def _climbing(loaded: Loaded, climb: Climb, folder: Path) -> Loaded:
    changes = {
        **updates_alone(loaded, climb.updates),
        "run.output": str(folder),
        "run.name": "climb",
        "optimizer.lr": climb.high,
        "schedule": {"name": "exponential", "start": climb.low / climb.high},
    }
    return with_overrides(loaded, changes)
