"""Search a recipe's values: which learning rate, strategy or strength does best on the evaluation rows.

Values come from optuna (TPE, at random, or a grid), every recipe is validated before it is tried, and each trial is a
run directory. Trials that do badly are stopped at an evaluation. A sweep goes on with --resume, also after a crash.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fttool.api import ExitCode, FttoolError, UsageError, show
from fttool.verbs import add_recipe, load_recipe, verb_parser
from fttool_plugins.verbs.counts import above_0, positive
from fttool_plugins.verbs.sweep.contradictions import refuse_contradictions
from fttool_plugins.verbs.sweep.spaces import read_spaces

if TYPE_CHECKING:
    from fttool_plugins.verbs.sweep.fitting import Checked
    from fttool_plugins.verbs.sweep.trials import Sweep

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
    refuse_contradictions(loaded, spaces, options)

    from fttool_plugins.verbs.sweep.fitting import Fitting, check_spaces
    from fttool_plugins.verbs.sweep.opening import opened
    from fttool_plugins.verbs.sweep.trials import work
    from fttool_plugins.verbs.sweep.workers import workers

    fitting = Fitting(loaded, spaces)
    checked = check_spaces(fitting)
    sweep = opened(fitting, options)
    if checked.refused:
        sweep.say(f"{checked.sentence()}, e.g. {checked.example}")
    with workers(words, 0 if options.worker else options.workers - 1):
        work(sweep)
    return ExitCode.OK if options.worker else _ended(sweep, checked, options)


def _ended(sweep: Sweep, checked: Checked, options: argparse.Namespace) -> int:
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


def _nothing(sweep: Sweep) -> FttoolError:
    """No trial has a value: why."""
    if sweep.budget.over:
        done = max(sweep.cut_short, default=0.0)
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
    parser.add_argument("--hours", type=above_0, metavar="H", help="begin no trial and end the last one after so long")
    parser.add_argument("--dollars", type=above_0, metavar="USD", help="as --hours, by --price")
    parser.add_argument("--price", type=above_0, metavar="USD", help="of an hour of this machine, for --dollars")
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


def _refuse_output(options: argparse.Namespace) -> None:
    if options.dollars is not None and options.price is None:
        raise UsageError("--dollars needs to know what an hour costs", hint="add --price 2.50")
    file: Path | None = options.output
    if file is not None and not options.worker:
        if file.exists():
            raise UsageError(f"'{file}' exists; it is never overwritten", hint="name another file: -o FILE")
        if not file.absolute().parent.is_dir():
            raise UsageError(f"the folder '{file.parent}' does not exist", hint="make it first")
