"""What a schedule's factors alone tell: how far two runs have the same rates, and where a run holds its peak.

A run may be made longer, or another may branch off it, where the updates up to a checkpoint have the rates that they
would have had from the start. No schedule is asked whether that is so: its factors are compared, bit for bit.
"""

from __future__ import annotations

from fttool.contracts.update import Factor, Schedule, ScheduleContext
from fttool.recipe.loaded import Loaded
from fttool.yielded import built


def factor_of(loaded: Loaded, total: int, schedule: Schedule | None = None) -> Factor:
    """The recipe's schedule, or another one in its place, for a run of `total` updates."""
    context = ScheduleContext(total_steps=total, lr=loaded.recipe.optimizer.lr, **loaded.common)
    return built(schedule or loaded.recipe.schedule, context)


def shared_updates(first: Factor, second: Factor, limit: int) -> int:
    """How many of the first updates have the same factor in both; `limit` at most."""
    return next((update for update in range(limit) if first(update) != second(update)), limit)


def stable_phase(factor: Factor, total: int) -> range:
    """The steps of a run of `total` updates at which the next update has the full rate; empty where none is held.

    The first stretch of at least two: a schedule that only touches its peak has no stable phase. A checkpoint in it is
    one from which a decay may begin. `constant` is stable to its end, `wsd` up to where its decay begins.
    """
    first = next((step for step in range(total + 1) if factor(step) == 1), total + 1)
    end = next((step for step in range(first, total + 1) if factor(step) != 1), total + 1)
    return range(first, end) if end - first > 1 else range(0)
