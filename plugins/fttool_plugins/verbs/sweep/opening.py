"""A sweep opened: its place, its objectives, its study with sampler and pruner, and its budget."""

from __future__ import annotations

import argparse
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from fttool.api import UsageError
from fttool.verbs import Loaded, counted
from fttool_plugins.verbs.sweep.fitting import Fitting
from fttool_plugins.verbs.sweep.objectives import Objective, objectives_of
from fttool_plugins.verbs.sweep.study import INSTALL, Place, free_the_dead, made_of, open_study, reached
from fttool_plugins.verbs.sweep.trials import Budget, Sweep, fill_grid

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

FIRST = 4
"""Trials that median pruning compares with, at least."""


def opened(fitting: Fitting, options: argparse.Namespace) -> Sweep:
    """The sweep that the command line asks for, ready for its first trial.

    Raises:
        UsageError: optuna is missing, the recipe does not measure an objective, or the study is not to be had.
        DiskError: the file that is its database is damaged.
    """
    if find_spec("optuna") is None:
        raise UsageError("a sweep needs optuna", hint=INSTALL)
    loaded = fitting.loaded
    objectives, place = objectives_of(loaded, options.objective), _place(loaded, options)
    pruner = _pruner_of(loaded, objectives, options.pruner)
    seed = None if options.worker else loaded.recipe.run.seed  # workers with one seed would try the same values
    study = open_study(
        place,
        made_of(loaded, fitting.spaces, objectives),
        objectives,
        sampler=_sampler(options.sampler, seed),
        pruner=_pruner(pruner, loaded.recipe.evaluation.every or 1),
        resume=options.resume,
        spaces=fitting.spaces,
    )
    sweep = Sweep(
        place=place,
        study=study,
        fitting=fitting,
        objectives=objectives,
        budget=_budget(options),
        prunes=pruner != "none",
        keeps=options.keep_models,
        quiet=options.quiet or options.json,
    )
    with reached(place):
        if freed := free_the_dead(study):
            sweep.say(f"{counted(freed, 'trial')} of a process that was killed, to be tried again")
        if options.sampler == "grid":
            fill_grid(study, fitting)
    return sweep


def _place(loaded: Loaded, options: argparse.Namespace) -> Place:
    name = options.name or f"{loaded.name}-sweep"
    if Path(name).name != name or name.startswith("."):
        raise UsageError(f"'{name}' is not the name of a folder", hint="--name NAME; --set run.output=… says where")
    return Place(Path(loaded.recipe.run.output).expanduser() / name, options.study)


def _budget(options: argparse.Namespace) -> Budget:
    hours = [options.hours, *([options.dollars / options.price] if options.dollars else [])]
    seconds = min((3600 * each for each in hours if each is not None), default=None)
    until = None if seconds is None else time.monotonic() + seconds
    return Budget(options.trials, until, grid=options.sampler == "grid")


def _pruner_of(loaded: Loaded, objectives: list[Objective], asked: str | None) -> str:
    """What was asked for, else `median` where there is something to stop trials by."""
    possible = loaded.recipe.evaluation.every is not None and len(objectives) == 1 and not objectives[0].forgets
    return asked or ("median" if possible else "none")


def _sampler(name: str, seed: int | None) -> BaseSampler:
    from optuna.samplers import RandomSampler, TPESampler

    return TPESampler(seed=seed) if name == "tpe" else RandomSampler(seed=seed)


def _pruner(name: str, every: int) -> BasePruner:
    from optuna.pruners import HyperbandPruner, MedianPruner, NopPruner

    if name == "hyperband":
        return HyperbandPruner(min_resource=every)
    return MedianPruner(n_startup_trials=FIRST) if name == "median" else NopPruner()
