"""What is refused of a sweep before its space is looked at: options, keys and objectives that cannot all be meant."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from math import prod

from fttool.api import UsageError
from fttool.verbs import Loaded
from fttool_plugins.verbs.sweep.objectives import FORGETTING
from fttool_plugins.verbs.sweep.spaces import Range, Space

GRID = 2000
"""Recipes of the largest grid."""


def refuse_contradictions(loaded: Loaded, spaces: Sequence[Space], options: argparse.Namespace) -> None:
    """Raise `UsageError` where the options, the space and the recipe cannot all be meant."""
    if loaded.recipe.sharding.world_size > 1:
        message = f"the recipe is for {loaded.recipe.sharding.world_size} processes, and a trial runs in one"
        raise UsageError(message, hint="--set sharding=none; several trials at once: --workers N")
    _refuse_keys(loaded, spaces, options)
    _refuse_pruning(loaded, options)


def _refuse_keys(loaded: Loaded, spaces: Sequence[Space], options: argparse.Namespace) -> None:
    for key in (text.partition("=")[0].strip() for text in options.overrides):
        if any(f"{key}.".startswith(f"{space.key}.") for space in spaces):
            raise UsageError(f"{key} is both set and searched", hint=f"leave out --set {key}, or --over {key}")
    for space in spaces:
        if space.key in ("run.name", "run.output"):
            raise UsageError(f"{space.key} is what a sweep gives each trial", hint="search another key")
        if options.sampler == "grid" and isinstance(space, Range):
            raise UsageError(f"a grid has so many values of {space.key}: how many?", hint=f"--over {space}:5")
    recipes = prod(len(space.tried) for space in spaces)
    if options.sampler == "grid" and recipes > GRID:
        message = f"the grid has {recipes:,} recipes, and at most {GRID:,} are put in line"
        raise UsageError(message, hint="take fewer values of each key, or --sampler tpe")


def _refuse_pruning(loaded: Loaded, options: argparse.Namespace) -> None:
    if options.seeds > 1 and len(set(options.objective)) > 1:
        message = "further seeds tell the best two trials apart, and of several objectives there is no best"
        raise UsageError(message, hint="leave out --seeds, or one --objective")
    if options.pruner in ("median", "hyperband"):
        if loaded.recipe.evaluation.every is None:
            hint = "--set evaluation.every=50, or --pruner none"
            raise UsageError("trials are stopped at evaluations, and the recipe has none in between", hint=hint)
        if len(set(options.objective)) > 1 or FORGETTING in options.objective:
            message = "trials are stopped by one metric on the evaluation rows, and not by several objectives"
            raise UsageError(message, hint="--pruner none")
