"""What this package brings to fttool: strategies of five families, and hooks that watch a run."""

from fttool.api import Strategy, hookimpl
from fttool_acme.diary import (
    fttool_checkpoint_saved,
    fttool_logged,
    fttool_recipe_loaded,
    fttool_run_finished,
    fttool_run_started,
)
from fttool_acme.filter import NoUrls
from fttool_acme.freezing import EveryOther
from fttool_acme.metric import Top5
from fttool_acme.regularizer import MovingAverage
from fttool_acme.schedule import Trapezoid


@hookimpl
def fttool_strategies() -> list[type[Strategy]]:
    """The strategies of this package."""
    return [Trapezoid, NoUrls, EveryOther, MovingAverage, Top5]


__all__ = [
    "EveryOther",
    "MovingAverage",
    "NoUrls",
    "Top5",
    "Trapezoid",
    "fttool_checkpoint_saved",
    "fttool_logged",
    "fttool_recipe_loaded",
    "fttool_run_finished",
    "fttool_run_started",
    "fttool_strategies",
]
