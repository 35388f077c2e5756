"""What verbs of plugins build on, beside `fttool.api`: arguments, rows, runs to come and finished runs.

Read `unbegun.py`, then `finished.py` and `evaluating.py`; `branching.py` begins a run with another run's checkpoint.
The names below are promised as those of `fttool.api` are; each is imported once it is asked for, so a verb's help is
quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fttool.cli.parser import verb_parser
    from fttool.cli.recipe_arguments import add_overrides, add_recipe, load_recipe
    from fttool.recipe.loaded import Loaded
    from fttool.rows.files.reader import read_lines
    from fttool.rows.files.source import read_rows
    from fttool.rundir.holding import holding
    from fttool.rundir.saved import model_head, saved_model
    from fttool.runs.start import checkpoint_steps, named, stable_steps
    from fttool.verbs.branching import branch
    from fttool.verbs.evaluating import (
        Evaluation,
        Measured,
        evaluate,
        fitting_format,
        measuring,
        metrics_for,
        model_classes,
        recipe_of,
    )
    from fttool.verbs.finished import load_run, measure, model_after, weights_before
    from fttool.verbs.unbegun import altered, plan_for_gpus, prepare
    from fttool.watch.aligned import aligned

_HOME = {
    "Evaluation": "fttool.verbs.evaluating",
    "Loaded": "fttool.recipe.loaded",
    "Measured": "fttool.verbs.evaluating",
    "add_overrides": "fttool.cli.recipe_arguments",
    "add_recipe": "fttool.cli.recipe_arguments",
    "aligned": "fttool.watch.aligned",
    "altered": "fttool.verbs.unbegun",
    "branch": "fttool.verbs.branching",
    "checkpoint_steps": "fttool.runs.start",
    "evaluate": "fttool.verbs.evaluating",
    "fitting_format": "fttool.verbs.evaluating",
    "holding": "fttool.rundir.holding",
    "load_recipe": "fttool.cli.recipe_arguments",
    "load_run": "fttool.verbs.finished",
    "measure": "fttool.verbs.finished",
    "measuring": "fttool.verbs.evaluating",
    "metrics_for": "fttool.verbs.evaluating",
    "model_after": "fttool.verbs.finished",
    "model_classes": "fttool.verbs.evaluating",
    "model_head": "fttool.rundir.saved",
    "named": "fttool.runs.start",
    "plan_for_gpus": "fttool.verbs.unbegun",
    "prepare": "fttool.verbs.unbegun",
    "read_lines": "fttool.rows.files.reader",
    "read_rows": "fttool.rows.files.source",
    "recipe_of": "fttool.verbs.evaluating",
    "saved_model": "fttool.rundir.saved",
    "stable_steps": "fttool.runs.start",
    "verb_parser": "fttool.cli.parser",
    "weights_before": "fttool.verbs.finished",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


__all__ = [
    "Evaluation",
    "Loaded",
    "Measured",
    "add_overrides",
    "add_recipe",
    "aligned",
    "altered",
    "branch",
    "checkpoint_steps",
    "evaluate",
    "fitting_format",
    "holding",
    "load_recipe",
    "load_run",
    "measure",
    "measuring",
    "metrics_for",
    "model_after",
    "model_classes",
    "model_head",
    "named",
    "plan_for_gpus",
    "prepare",
    "read_lines",
    "read_rows",
    "recipe_of",
    "saved_model",
    "stable_steps",
    "verb_parser",
    "weights_before",
]
