"""A few updates of a recipe as they are, and nothing of what is around them."""

from __future__ import annotations

from typing import Any

from fttool.verbs import Loaded


def updates_alone(loaded: Loaded, updates: int) -> dict[str, Any]:
    """Overrides, by dotted key, that leave an update as it is, and drop evaluations, trackers and observers.

    The schedule is left to whoever asks: the recipe's own may have a climb that is longer.
    """
    return {
        "run.max_steps": updates,
        "run.global_batch": loaded.recipe.global_batch,
        "run.log_every": 1,
        "data.eval": [],
        "data.eval_share": 0.0,
        "data.retention": [],
        "evaluation": {},
        "tracking.to": [],
        "plugins.observe": [],
    }
