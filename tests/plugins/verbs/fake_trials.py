"""Sweeps whose trials are not trained: their loss is a known function of what was chosen, and they end as one says.

As a script it is `fttool sweep` with such trials: `python fake_trials.py KILLED_AT WORDS…`.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

STEPS = 6
BEST = 3e-3


def loss_of(recipe: Any, share: float = 1.0) -> float:
    """Least at a rate of `BEST`; a full model is better by 0.1; it falls over the run."""
    away = abs(math.log10(recipe.optimizer.lr / BEST))
    return 1 + away + (0 if recipe.freezing.id() == "full" else 0.1) + 2 * (1 - share)


def forgotten_of(recipe: Any) -> float:
    """More at higher rates."""
    return recipe.optimizer.lr


def write_run(folder: Path, recipe: Any, status: str = "finished", steps: int = STEPS) -> dict[str, Any]:
    """A run directory of which only the summary is there; returns that."""
    folder.mkdir(parents=True)
    summary = {
        "status": status,
        "steps": steps,
        "total_steps": STEPS,
        "better_is": {"loss": "lower"},
        "eval": {"before": {"loss": 5.0}, "after": {"loss": loss_of(recipe)} if status == "finished" else {}},
        "retention": {"before": {"old": {"loss": 1.0}}, "after": {"old": {"loss": 1.0 + forgotten_of(recipe)}}},
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    return summary


def fake(before: Callable[[Any], None] = lambda loaded: None, seconds: float = 0.0) -> Callable[..., Mapping[str, Any]]:
    """Takes the place of `short_run`; `before` is called with each recipe, and may raise."""

    def short_run(loaded: Any, heard: Any = None, *, saves: bool = False) -> Mapping[str, Any]:
        before(loaded)
        time.sleep(seconds)
        folder = Path(loaded.recipe.run.output) / loaded.name
        for step in range(2, STEPS + 1, 2):
            if heard and heard(step, {"step": step, "eval_loss": loss_of(loaded.recipe, step / STEPS)}):
                return write_run(folder, loaded.recipe, "interrupted", step)
        return write_run(folder, loaded.recipe)

    return short_run


if __name__ == "__main__":
    from fttool.cli import main
    from fttool_plugins.verbs.sweep import trials

    made: list[Any] = []

    def kill(loaded: Any) -> None:
        made.append(loaded)
        if len(made) == int(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGKILL)

    trials.short_run = fake(kill, seconds=0.05)
    sys.exit(main(["sweep", *sys.argv[2:]]))
