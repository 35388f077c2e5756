"""What a sweep makes better: a metric on the evaluation rows, what is forgotten on the retention rows, or both."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fttool.api import Problem, UsageError, did_you_mean
from fttool.verbs import Loaded
from fttool_plugins.verbs.compare.past import number, read_runs

FORGETTING = "forgetting"


@dataclass(frozen=True, slots=True)
class Objective:
    """A number of a run."""

    name: str
    """As it was asked for: the metric's id, or `forgetting`."""
    metric: str
    """Its id."""
    higher: bool
    """More of it is better."""

    @property
    def direction(self) -> Literal["maximize", "minimize"]:
        """In the study's words."""
        return "maximize" if self.higher else "minimize"

    @property
    def forgets(self) -> bool:
        """It is by how much the metric got worse on the retention rows, the mean over their datasets."""
        return self.name == FORGETTING

    def of_run(self, folder: Path) -> float | None:
        """Its value for a run that has ended; None where the run has none that is a number."""
        (run,) = read_runs([folder])
        measured = run.gained.get(self.metric)
        value = run.lost(self.metric) if self.forgets else None if measured is None else measured.after
        return value if value is not None and math.isfinite(value) else None

    def of_line(self, values: Mapping[str, Any]) -> float | None:
        """Its value in a line of `metrics.jsonl`, where that is an evaluation of a model in training."""
        if self.forgets or values.get("final"):
            return None
        value = number(values.get(f"eval_{self.metric}"))
        return value if value is not None and math.isfinite(value) else None


def objectives_of(loaded: Loaded, asked: Sequence[str]) -> list[Objective]:
    """What was asked for, else the recipe's first metric; `UsageError` where the recipe does not measure it."""
    recipe = loaded.recipe
    kinds = {metric.id(): metric.greater_is_better for metric in recipe.evaluation.metrics}
    names = list(dict.fromkeys(asked)) or list(kinds)[:1]
    problems: list[Problem] = []
    if not recipe.data.eval and not recipe.data.eval_share:
        hint = "add [[data.eval]], or --set data.eval_share=0.1"
        problems.append(Problem("the recipe has no evaluation rows, so no run is better than another", hint=hint))
    if not names:
        problems.append(Problem("the recipe measures nothing", hint='--set evaluation.metrics=["loss"]'))
    for name in names:
        if name == FORGETTING and not recipe.data.retention:
            hint = 'add [[data.retention]] with path = "rows.jsonl"'
            problems.append(Problem("what is forgotten is measured on retention rows, and there are none", hint=hint))
        elif name != FORGETTING and name not in kinds:
            hint = did_you_mean(name, [*kinds, FORGETTING])
            problems.append(Problem(f"the recipe does not measure '{name}'", hint=hint))
    if problems:
        raise UsageError(problems)
    gained = next((name for name in [*names, *kinds] if name != FORGETTING), "")
    return [
        Objective(name, gained, higher=False) if name == FORGETTING else Objective(name, name, higher=kinds[name])
        for name in names
    ]
