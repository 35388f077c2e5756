"""Fine-tune as a recipe says. The run directory is `run.output/run.name`; an existing one is never overwritten."""

from __future__ import annotations

import argparse
import os

from fttool.cli.recipe_arguments import add_recipe, load_recipe
from fttool.errors import UsageError
from fttool.launch import joining
from fttool.recipe.loaded import Loaded
from fttool.runs.refusing import refuse_early
from fttool.runs.stopping import stoppable
from fttool.watch import screen
from fttool.world import REPORTS

EXAMPLES = """\
examples:
  fttool run my.toml
  fttool run my.toml --dry-run                       rows, parameters, schedule; no training
  fttool run my.toml --set run.max_steps=50 --set schedule.name=wsd
  fttool run my.toml --set 'schedule={name="wsd",decay=0.2}'
  fttool run my.toml --resume                        continue from the newest intact checkpoint
  fttool run my.toml --json > events.jsonl           one JSON event per line
  fttool run my.toml --no-save --set run.max_steps=20       does it fit, how fast is it? keeps the log, not the model
  fttool run my.toml --nodes 2 --node-rank 0 --rendezvous node03:29400      on node03; --node-rank 1 on the other

exit codes: 2 usage, 3 recipe, 4 data, 5 model, 6 plugin, 7 out of memory, 8 diverged, 9 disk,
  10 tracker, 129 SIGHUP, 130 Ctrl-C, 143 SIGTERM

next: fttool generate runs/my "question", then fttool compare runs/*
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of this verb."""
    add_recipe(parser)
    parser.add_argument("--resume", action="store_true", help="continue from the newest intact checkpoint")
    parser.add_argument(
        "--trust-checkpoint",
        action="store_true",
        help="with --resume under fsdp or zero: run the code in a checkpoint that somebody else wrote",
    )
    parser.add_argument(
        "--no-save", action="store_true", help="write no checkpoints and no model: to try or to measure"
    )
    parser.add_argument("--dry-run", action="store_true", help="do everything but train, and print what would happen")
    several = parser.add_argument_group("several machines", "the same command on each, and a disk that all share")
    several.add_argument("--nodes", type=int, metavar="N", help="how many there are: short for --set sharding.nodes=N")
    several.add_argument("--node-rank", type=int, metavar="I", help="which this is, from 0; the first shows the run")
    several.add_argument(
        "--rendezvous", metavar="HOST:PORT", help="address of the first and a port that is free there; the same on each"
    )
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--json", action="store_true", help="events as JSON lines on stdout")
    shown.add_argument("-q", "--quiet", action="store_true", help="show errors only")
    shown.add_argument("-v", "--verbose", action="store_true", help="show what the libraries log too")


def main(options: argparse.Namespace) -> int:
    """Load the recipe, then run it."""
    shown = screen.choose(quiet=options.quiet, as_json=options.json)
    with screen.reporting(shown), stoppable():
        return _run(options, shown)


def _run(options: argparse.Namespace, shown: screen.Screen) -> int:
    """torch is imported only once nothing is wrong that can be told without it."""
    if options.nodes is not None:
        options.overrides.append(f"sharding.nodes={options.nodes}")
    if options.resume and options.no_save and REPORTS not in os.environ:  # where it is, a launcher starts it again
        hint = "a resumed run saves its model and checkpoints: leave one of the two out"
        raise UsageError("--resume and --no-save cannot be combined", hint=hint)
    loaded = load_recipe(options)
    refuse_early(loaded, resume=None if options.dry_run else options.resume)
    if options.verbose:
        from fttool.machine import show_libraries

        show_libraries()
    if options.dry_run:
        from fttool.show.dry_run import dry_run

        return dry_run(loaded, shown)
    code = _launched(options, loaded, shown)
    if code is not None:
        return code
    from fttool.launch.worker import signed_in
    from fttool.show.running import run_shown

    with signed_in():
        trusts = options.trust_checkpoint
        return run_shown(loaded, shown, resume=options.resume, saves=not options.no_save, trusts=trusts).code


def _launched(options: argparse.Namespace, loaded: Loaded, shown: screen.Screen) -> int | None:
    """The exit code of a run whose processes were started here; None where this process is to make the run."""
    from fttool.launch.nodes import Nodes

    placed = options.node_rank is not None or options.rendezvous is not None
    here = joining.must_launch(loaded, placed=placed)
    nodes = Nodes.of(loaded.recipe.sharding.launch.nodes if here else 1, options.node_rank, options.rendezvous)
    if not here:
        return None
    from fttool.launch.launching import launch

    words = _words(options)
    return launch(words, loaded, shown, nodes, going_on=None if options.resume else [*words, "--resume"])


def _words(options: argparse.Namespace) -> list[str]:
    """The command line again, for the processes of a run."""
    flags = ("resume", "trust-checkpoint", "no-save", "json", "quiet", "verbose", "debug")
    overrides = [word for override in options.overrides for word in ("--set", override)]
    recipe = str(options.recipe)
    return [
        "run",
        f"./{recipe}" if recipe.startswith("-") else recipe,
        *overrides,
        *(f"--{flag}" for flag in flags if getattr(options, flag.replace("-", "_"), False)),
    ]
