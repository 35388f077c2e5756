"""One short run of the recipe's model on some of its rows, in a folder that goes with it.

Task, format, masking, filters, batching, optimizer and precision are the recipe's. Its schedule is linear with a short
warmup, so that the run ends as a whole one does. Regularizers, replay, layer rates and sharding are left out: they
belong to some modes only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from fttool.api import Recipe
from fttool.verbs import Loaded, short_run, with_overrides
from fttool_plugins.verbs.decide.modes import Mode
from fttool_plugins.verbs.decide.pool import Part, Pool

FEWEST_UPDATES = 8
"""Of a run; fewer do not tell learning from warming up."""
WARMUP = 0.1


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run was good for."""

    before: float
    """The score of the model as it was."""
    after: float
    forgotten: float | None
    """By how much the loss on the retention rows rose, the mean of their datasets; None without such rows."""
    seconds: float
    """An update took."""


Tried = Callable[[Mode, int, int], Outcome]
"""A mode, a number of rows, and a seed → what a run was good for."""


@dataclass(frozen=True, kw_only=True)
class Trials:
    """Makes such runs."""

    settings: Loaded
    """The recipe without what belongs to some modes only."""
    pool: Pool
    metric: str
    """By which it is measured."""
    folder: Path
    """An empty one."""

    def __call__(self, mode: Mode, rows: int, seed: int) -> Outcome:
        """Run on about so many rows; `FttoolError` where the run is refused."""
        changes = {
            "run.seed": seed,
            "run.max_steps": updates(self.settings.recipe, rows),
            "freezing": dict(mode.freezing),
            "optimizer.lr": mode.rate,
        }
        summary = short_run(with_overrides(self.settings_of(rows), changes))
        after = summary["eval"]["after"]
        losses = [delta["loss"] for delta in summary["retention"]["delta"].values() if "loss" in delta]
        return Outcome(
            before=float(summary["eval"]["before"][self.metric]),
            after=float(after[self.metric]),
            forgotten=fmean(losses) if losses else None,
            seconds=float(summary["seconds"]) / max(1, summary["steps"]),
        )

    def settings_of(self, rows: int) -> Loaded:
        """The recipe with about so many rows, which are written into a folder of their own."""
        own = self.folder / str(len(list(self.folder.iterdir())))
        own.mkdir()
        placed = {"run.output": str(own), "run.name": "run"}
        return with_overrides(self.settings, {**placed, **tables(own, self.pool.first(rows), self.pool)})


def updates(recipe: Recipe, rows: int) -> int:
    """Of a run over so many rows, as often as the recipe sees them, or as they fall to them of its `max_steps`."""
    passes = recipe.run.epochs or 1
    return max(FEWEST_UPDATES, math.ceil(rows * passes / recipe.global_batch))


def tables(folder: Path, train: Sequence[Part], pool: Pool) -> dict[str, Any]:
    """Overrides of `[data]` with these rows, written into the folder."""
    return {
        "data.train": [part.written(folder) for part in train],
        "data.eval": [part.written(folder) for part in pool.measured if part.rows],
        "data.retention": [part.written(folder) for part in pool.retention],
    }


def settings_for(loaded: Loaded, pool: Pool, metrics: Sequence[Any]) -> Loaded:
    """The recipe as all such runs share it."""
    recipe = loaded.recipe
    changes: dict[str, Any] = {
        "run.workers": 0,
        "run.global_batch": recipe.global_batch,
        "run.epochs": passes(recipe, pool.rows),
        "run.log_every": 10**6,
        "data.eval": [],
        "data.eval_share": 0.0,
        "data.retention": [],
        "data.general": [],
        "data.cache": False,
        "data.workers": 1,
        "mixing": "concatenate",
        "regularizers": [],
        "layer_rates": "uniform",
        "freezing": "full",
        "sharding": "none",
        "schedule": {"name": "linear", "warmup": WARMUP},
        "evaluation": {"metrics": list(map(_dumped, metrics)), "samples": 0},
        "checkpoints": {},
        "tracking": {},
        "plugins.observe": [],
    }
    given = _dumped(recipe.task)
    if recipe.task.learns in ("row", "word") and "labels" not in given:  # a sample may lack some of them
        given["labels"] = sorted({name for example in pool.examples for name in example.labels or ()})
        changes["task"] = given
    return with_overrides(loaded, changes)


def passes(recipe: Recipe, rows: int) -> int:
    """How often the recipe's run sees each row, at least once."""
    if recipe.run.max_steps is None:
        return recipe.run.epochs or 1
    return max(1, round(recipe.run.max_steps * recipe.global_batch / rows))


def _dumped(strategy: Any) -> dict[str, Any]:
    """A strategy as a recipe has it: its id and the options that somebody has said."""
    return {"name": strategy.id(), **strategy.model_dump(mode="json", exclude_unset=True, exclude_none=True)}
