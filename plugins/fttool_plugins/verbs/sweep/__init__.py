"""Search a recipe's values: which learning rate, strategy or strength does best on the evaluation rows.

Values come from optuna (TPE, at random, or a grid), every recipe is validated before it is tried, and each trial is a
run directory. Trials that do badly are stopped at an evaluation. A sweep goes on with --resume, also after a crash.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fttool.api import ExitCode, FttoolError, UsageError, show
from fttool.verbs import Loaded, add_recipe, counted, load_recipe, verb_parser
from fttool_plugins.verbs.counts import positive
from fttool_plugins.verbs.sweep.spaces import Range, Space, read_spaces

EXAMPLES = """\
examples:
  fttool sweep my.toml --over optimizer.lr=1e-5..1e-3:log --trials 4
  fttool sweep my.toml --over optimizer.lr=1e-5..1e-3:log --over schedule=cosine,constant --trials 3 --seeds 2
  fttool sweep my.toml --over optimizer.lr=1e-5..1e-3:log:3 --sampler grid --name rates
  fttool sweep my.toml --over regularizers.0.strength=0.01..10:log --trials 3 --objective loss --objective forgetting

next: fttool run runs/my-sweep/best.toml; fttool compare runs/my-sweep/trial-*
"""


def main(words: Sequence[str]) -> int:
    """Check everything, make trials, and say what was best."""
    options = _parser().parse_args(words)
    spaces = read_spaces(options.over)
    if not spaces:
        raise UsageError("nothing is searched", hint="e.g. --over optimizer.lr=1e-6..1e-4:log")
    _refuse_output(options)
    loaded = load_recipe(options)
    _refuse_contradictions(loaded, spaces, options)

    from fttool_plugins.verbs.sweep.fitting import Fitting, check_spaces
    from fttool_plugins.verbs.sweep.trials import work
    from fttool_plugins.verbs.sweep.workers import workers

    fitting = Fitting(loaded, spaces)
    checked = check_spaces(fitting)
    sweep = _opened(fitting, options)
    if options.worker:
        work(sweep)
        return ExitCode.OK
    if checked.refused:
        sweep.say(f"{checked.sentence()}, e.g. {checked.example}")
    with workers(words, options.workers - 1):
        work(sweep)
    return _ended(sweep, checked, options)


def _ended(sweep: Any, checked: Any, options: argparse.Namespace) -> int:
    from fttool_plugins.verbs.sweep import ending
    from fttool_plugins.verbs.sweep.showing import Result, as_json, screen
    from fttool_plugins.verbs.sweep.study import reached

    with reached(sweep.place):
        best = ending.ranked(sweep)
    if not best:
        raise _nothing(sweep)
    seeded = ending.with_seeds(sweep, best, options.seeds) if options.seeds > 1 else []
    files = ending.recipe_files(sweep, best, options.output)
    for trial, file in files:
        ending.write_recipe(sweep, trial, file)
    with reached(sweep.place):
        trials = sweep.study.get_trials()
    result = Result(sweep=sweep, checked=checked, trials=trials, best=best, seeded=seeded, files=files)
    if options.json:
        print(json.dumps(as_json(result), indent=2, ensure_ascii=False))
    else:
        show(*screen(result))
    return ExitCode.OK


def _nothing(sweep: Any) -> FttoolError:
    """No trial has a value: why."""
    if sweep.cut_short:
        done = max(sweep.cut_short)
        message = f"the time was too short for one trial: {done:.0%} of the updates of one were made"
        return UsageError(message, hint="more --hours, or fewer updates: --set run.max_steps=…; --resume goes on")
    hint = f"`fttool compare {sweep.place.folder}/trial-*` shows how they ended"
    return FttoolError("no trial has come to a value to compare", hint=hint)


# -- the command line ------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = verb_parser("sweep", __doc__, EXAMPLES)
    add_recipe(parser)
    over = "what is searched: KEY=LOW..HIGH, KEY=LOW..HIGH:log, KEY=LOW..HIGH:log:5 (five values), KEY=A,B,C"
    parser.add_argument("--over", action="append", default=[], metavar="KEY=SPACE", help=over)
    objective = "a metric of the recipe, or forgetting; given twice, what none beats in both; default: the first metric"
    parser.add_argument("--objective", action="append", default=[], metavar="NAME", help=objective)
    parser.add_argument("--trials", type=positive, default=20, metavar="N", help="in all; default: 20")
    parser.add_argument("--hours", type=_above_0, metavar="H", help="begin no trial and end the last one after so long")
    parser.add_argument("--dollars", type=_above_0, metavar="USD", help="as --hours, by --price")
    parser.add_argument("--price", type=_above_0, metavar="USD", help="of an hour of this machine, for --dollars")
    parser.add_argument("--sampler", choices=("tpe", "random", "grid"), default="tpe", help="default: tpe")
    pruner = "what stops bad trials at an evaluation; default: median where evaluation.every is set"
    parser.add_argument("--pruner", choices=("none", "median", "hyperband"), help=pruner)
    seeds = "run the best two with so many seeds, their own among them; default: 1"
    parser.add_argument("--seeds", type=positive, default=1, metavar="N", help=seeds)
    parser.add_argument("--workers", type=positive, default=1, metavar="N", help="processes here; default: 1")
    parser.add_argument("--name", metavar="NAME", help="of the sweep's folder beside the runs; default: RECIPE-sweep")
    parser.add_argument("--study", metavar="URL", help="a database for several machines: postgresql://…")
    parser.add_argument("--resume", action="store_true", help="go on with the sweep, or join one that is running")
    parser.add_argument("--keep-models", action="store_true", help="trials keep models and checkpoints, as runs do")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="for the best recipe; default: in the folder")
    parser.add_argument("--json", action="store_true", help="all of it as one JSON object on stdout")
    parser.add_argument("-q", "--quiet", action="store_true", help="show the result only")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    return parser


def _above_0(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return number


def _refuse_output(options: argparse.Namespace) -> None:
    if options.dollars is not None and options.price is None:
        raise UsageError("--dollars needs to know what an hour costs", hint="add --price 2.50")
    file: Path | None = options.output
    if file is not None and not options.worker:
        if file.exists():
            raise UsageError(f"'{file}' exists; it is never overwritten", hint="name another file: -o FILE")
        if not file.absolute().parent.is_dir():
            raise UsageError(f"the folder '{file.parent}' does not exist", hint="make it first")


def _refuse_contradictions(loaded: Loaded, spaces: Sequence[Space], options: argparse.Namespace) -> None:
    """What the options and the recipe say against each other."""
    if loaded.recipe.sharding.world_size > 1:
        message = f"the recipe is for {loaded.recipe.sharding.world_size} processes, and a trial runs in one"
        raise UsageError(message, hint="--set sharding=none, with a --worker for each device")
    for key in (text.partition("=")[0].strip() for text in options.overrides):
        if any(f"{key}.".startswith(f"{space.key}.") for space in spaces):
            raise UsageError(f"{key} is both set and searched", hint=f"leave out --set {key}, or --over {key}")
    for space in spaces:
        if space.key in ("run.name", "run.output"):
            raise UsageError(f"{space.key} is what a sweep gives each trial", hint="search another key")
        if options.sampler == "grid" and isinstance(space, Range):
            raise UsageError(f"a grid has so many values of {space.key}: how many?", hint=f"--over {space}:5")
    if options.seeds > 1 and len(set(options.objective)) > 1:
        message = "further seeds tell the best two trials apart, and of several objectives there is no best"
        raise UsageError(message, hint="leave out --seeds, or one --objective")
    if options.pruner in ("median", "hyperband"):
        if loaded.recipe.evaluation.every is None:
            hint = "--set evaluation.every=50, or --pruner none"
            raise UsageError("trials are stopped at evaluations, and the recipe has none in between", hint=hint)
        if len(set(options.objective)) > 1 or "forgetting" in options.objective:
            message = "trials are stopped by one metric on the evaluation rows, and not by several objectives"
            raise UsageError(message, hint="--pruner none")


def _opened(fitting: Any, options: argparse.Namespace) -> Any:
    """The sweep, with its study."""
    from importlib.util import find_spec

    from fttool_plugins.verbs.sweep import study as studies
    from fttool_plugins.verbs.sweep.objectives import objectives_of
    from fttool_plugins.verbs.sweep.trials import Budget, Sweep, fill_grid

    if find_spec("optuna") is None:
        raise UsageError("a sweep needs optuna", hint=studies.INSTALL)
    loaded: Loaded = fitting.loaded
    objectives = objectives_of(loaded, options.objective)
    name = options.name or f"{loaded.name}-sweep"
    if Path(name).name != name or name.startswith("."):
        raise UsageError(f"'{name}' is not the name of a folder", hint="--name NAME; --set run.output=… says where")
    place = studies.Place(Path(loaded.recipe.run.output).expanduser() / name, options.study)
    every = loaded.recipe.evaluation.every
    prunes = options.pruner or ("median" if every and len(objectives) == 1 and not objectives[0].forgets else "none")
    sampler = None if options.worker else loaded.recipe.run.seed  # workers with one seed would try the same values
    study = studies.open_study(
        place,
        studies.made_of(loaded, fitting.spaces, objectives),
        objectives,
        sampler=_sampler(options.sampler, sampler),
        pruner=_pruner(prunes, every or 1),
        resume=options.resume,
        spaces=fitting.spaces,
    )
    hours = [options.hours, *([options.dollars / options.price] if options.dollars else [])]
    seconds = min((3600 * each for each in hours if each is not None), default=None)
    until = None if seconds is None else time.monotonic() + seconds
    sweep = Sweep(
        place=place,
        study=study,
        fitting=fitting,
        objectives=objectives,
        budget=Budget(options.trials, until, grid=options.sampler == "grid"),
        prunes=prunes != "none",
        keeps=options.keep_models,
        quiet=options.quiet or options.json,
    )
    with studies.reached(place):
        if freed := studies.free_the_dead(study):
            sweep.say(f"{counted(freed, 'trial')} of a process that was killed, to be tried again")
        if options.sampler == "grid":
            fill_grid(study, fitting)
    return sweep


def _sampler(name: str, seed: int | None) -> Any:
    from optuna.samplers import RandomSampler, TPESampler

    return TPESampler(seed=seed) if name == "tpe" else RandomSampler(seed=seed)


def _pruner(name: str, every: int) -> Any:
    from optuna.pruners import HyperbandPruner, MedianPruner, NopPruner

    if name == "hyperband":
        return HyperbandPruner(min_resource=every)
    return MedianPruner(n_startup_trials=4) if name == "median" else NopPruner()
