"""Let a WSD run decay from a checkpoint of its stable phase.

The result is a run directory of its own, beside RUN: bit for bit the run that would have been planned with this decay
from the start. RUN is left as it is; it may decay from other checkpoints too, and go on: fttool run … --resume with a
larger run.max_steps.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fttool.api import UsageError
from fttool.verbs import (
    Loaded,
    add_overrides,
    branch,
    checkpoint_names,
    checkpoint_steps,
    load_run,
    stable_steps,
    verb_parser,
)
from fttool_plugins.schedule.wsd import SHAPES, WarmupStableDecay

EXAMPLES = """\
examples:
  fttool decay runs/long --steps 60                           from the newest stable checkpoint
  fttool decay runs/long --from checkpoint-300 --steps 60
  fttool decay runs/long --from checkpoint-300 --steps 30 --shape linear --name long-300-short

next: fttool compare runs/*
"""


def main(words: Sequence[str]) -> int:
    """Choose the checkpoint, then run."""
    options = _parser().parse_args(words)
    run = load_run(options.run)
    step = _chosen(run, options.run, options.start)
    _refuse_bound_freezing(run, options.run, step + options.steps)
    name = options.name or f"{run.name}-{step}-decay-{options.steps}"
    target = options.run.absolute().parent / name
    if target.exists():
        hint = f"choose another name: --name …; or go on with it: fttool run {target / 'recipe.resolved.toml'} --resume"
        raise UsageError(f"the run directory '{target}' exists; it is never overwritten", hint=hint)
    overrides = {
        "run.name": name,
        "run.max_steps": step + options.steps,
        "schedule": _schedule(run, step, options.steps, options.shape),
    }
    return branch(
        run,
        step,
        overrides,
        more=options.overrides,
        words=["decay", *words],
        quiet=options.quiet,
        as_json=options.json,
        trusts=options.trust_checkpoint,
    )


def _parser() -> argparse.ArgumentParser:
    parser = verb_parser("decay", __doc__, EXAMPLES)
    parser.add_argument("run", type=Path, metavar="RUN", help="a run directory")
    parser.add_argument("--from", dest="start", metavar="CHECKPOINT", help="default: the newest of the stable phase")
    parser.add_argument("--steps", type=_updates, required=True, metavar="N", help="updates of the decay")
    parser.add_argument("--shape", choices=SHAPES, help="default: that of RUN, else 1-sqrt")
    parser.add_argument("--name", help="the new run's; default: RUN's, with checkpoint and steps")
    add_overrides(parser, "override what --resume may too, e.g. --set sharding.processes=2")
    parser.add_argument(
        "--trust-checkpoint",
        action="store_true",
        help="run the code in a sharded checkpoint that somebody else wrote",
    )
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--json", action="store_true", help="events as JSON lines on stdout")
    shown.add_argument("-q", "--quiet", action="store_true", help="show errors only")
    return parser


def _updates(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of updates")
    if int(text) < 2:
        what = f"{text!r} is not a length for a decay: its first update still has the full rate; use at least 2"
        raise argparse.ArgumentTypeError(what)
    return int(text)


def _chosen(run: Loaded, folder: Path, asked: str | None) -> int:
    """The step of the checkpoint to start from; raises `UsageError` where none, or not the one asked for, will do."""
    phases = {step: stable_steps(run, step) for step in checkpoint_steps(run)}
    stable = [step for step, phase in phases.items() if step in phase]
    there = checkpoint_names([*phases])
    if asked is not None and (step := _step(asked)) not in phases:
        raise UsageError(f"'{folder}' has no checkpoint '{asked}'", hint=f"there are {there}")
    if phases and not any(phases.values()):
        what = f"'{folder}' cannot decay: its schedule '{run.recipe.schedule.id()}' never holds its peak"
        raise UsageError(what, hint="decaying is for runs under wsd or constant")
    if asked is None and not stable:
        hint = f"there are {there}; checkpoints.keep_stable = 1 keeps one from there"
        raise UsageError(f"'{folder}' has no checkpoint in its stable phase", hint=hint)
    step = stable[-1] if asked is None else _step(asked)
    if step not in stable:
        message = f"checkpoint-{step} of '{folder}' lies outside the stable phase: its rate is not the full one"
        raise UsageError(message, hint=f"of the stable phase are {checkpoint_names(stable)}")
    return step


def _refuse_bound_freezing(run: Loaded, folder: Path, end: int) -> None:
    """Raise `UsageError` where other parameters would have trained from the start in a run of `end` updates."""
    freezing, total = run.recipe.freezing, run.recipe.run.max_steps
    if freezing.extendable or end == total:
        return
    message = (
        f"'{folder}' cannot decay to update {end}: what freezing '{freezing.id()}' trains depends on the run's length"
    )
    own = f", or let it end where RUN does: after {total} updates" if total is not None else ""
    raise UsageError(message, hint=f"plan a run of {end} updates instead{own}")


def _step(checkpoint: str) -> int | None:
    """The step in a checkpoint's name or path, or the number alone."""
    match = re.fullmatch(r"(?:.*checkpoint-)?(\d+)/?", checkpoint)
    return int(match[1]) if match else None


def _schedule(run: Loaded, step: int, steps: int, shape: str | None) -> dict[str, Any]:
    """`wsd` with the run's climb in steps, its end and its shape where it has them, and the new decay."""
    own = run.recipe.schedule
    wsd = own if isinstance(own, WarmupStableDecay) else WarmupStableDecay()
    return {
        "name": wsd.id(),
        "warmup": stable_steps(run, step).start,
        "decay": steps,
        "shape": shape or wsd.shape,
        "min_lr": wsd.min_lr,
    }
