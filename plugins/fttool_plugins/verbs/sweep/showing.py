"""A sweep as a screen and as data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fttool.verbs import aligned, counted
from fttool_plugins.verbs.sweep.ending import Seeded, chosen_of, how_sure
from fttool_plugins.verbs.sweep.fitting import Checked, in_words
from fttool_plugins.verbs.sweep.study import RUN, SECONDS, WHY, counts
from fttool_plugins.verbs.sweep.trials import Sweep

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

SHOWN = 10
"""Trials in the table, the best first."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What there is to show."""

    sweep: Sweep
    checked: Checked
    trials: Sequence[FrozenTrial]
    """All of the study."""
    best: Sequence[FrozenTrial]
    """The best first; of several objectives those that none beats in all."""
    seeded: Sequence[Seeded]
    files: Sequence[tuple[FrozenTrial, Path]]


def screen(result: Result) -> list[str]:
    """A table, how sure it is, and what to type next."""
    sweep = result.sweep
    lines = [", ".join(_counts(result)), *filter(None, [result.checked.sentence()]), ""]
    several = len(sweep.objectives) > 1
    if several:
        lines += ["no trial is better than these in everything:"]
    names = [objective.name for objective in sweep.objectives]
    rows = [("trial", *names, "")]
    for trial in result.best[:SHOWN]:
        values = [f"{value:.4f}" for value in trial.values]
        rows.append((str(trial.number), *values, ""))
    table = aligned(rows)
    said = ["", *(in_words(chosen_of(trial, sweep.fitting)) for trial in result.best[:SHOWN])]
    lines += [f"{row.rstrip()}  {values}".rstrip() for row, values in zip(table, said, strict=True)]
    more = len(result.best) - SHOWN
    lines += [f"and {more} more: --json has all"] if more > 0 else []
    lines += ["", *([f"{how_sure(sweep, result.seeded)}."] if result.seeded else _unsure(several))]
    lines += ["", *(f"recipe  {file}" for _, file in result.files)]
    return [*lines, f"next    fttool run {result.files[0][1]}; fttool compare {sweep.place.folder}/trial-*"]


def _unsure(several: bool) -> Iterator[str]:
    if not several:
        yield "How sure that is was not asked: --resume --seeds 3 runs the best two with further seeds."


def _counts(result: Result) -> Iterator[str]:
    names = {"COMPLETE": "finished", "PRUNED": "stopped early", "FAIL": "failed", "RUNNING": "running elsewhere"}
    states = [trial.state.name for trial in result.trials if counts(trial)]
    yield counted(len(states), "trial")
    for state, name in names.items():
        if state in states:
            yield f"{states.count(state)} {name}"


def as_json(result: Result) -> dict[str, Any]:
    """All of it."""
    sweep = result.sweep
    return {
        "sweep": str(sweep.place.folder),
        "recipe": str(sweep.fitting.loaded.path),
        "space": [str(space) for space in sweep.fitting.spaces],
        "objectives": [
            {"name": one.name, "metric": one.metric, "direction": one.direction} for one in sweep.objectives
        ],
        "validated": asdict(result.checked),
        "trials": [_described(sweep, trial) for trial in result.trials if counts(trial)],
        "best": [trial.number for trial in result.best],
        "seeds": [
            {"trial": one.trial, "values": list(one.values), "mean": one.mean, "spread": one.spread}
            for one in result.seeded
        ],
        "recipes": {str(trial.number): str(file) for trial, file in result.files},
    }


def _described(sweep: Sweep, trial: FrozenTrial) -> dict[str, Any]:
    run = trial.user_attrs.get(RUN)
    return {
        "trial": trial.number,
        "state": trial.state.name.lower(),
        "values": trial.values,
        "chosen": chosen_of(trial, sweep.fitting),
        "run": None if run is None else str(sweep.place.folder / run),
        "seconds": trial.user_attrs.get(SECONDS),
        "why": trial.user_attrs.get(WHY) or None,
    }
