"""The trials of a sweep: values are asked for, validated, run as a run directory, and what came of it is told.

Each worker does this until the budget is used up. A trial is stopped early as a signal stops a run: it ends after the
next update, and its run directory says `interrupted`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fttool.api import ExitCode, FttoolError, RecipeError, show
from fttool.verbs import gist, short_run
from fttool_plugins.verbs.sweep.fitting import Fitting, in_words
from fttool_plugins.verbs.sweep.objectives import Objective
from fttool_plugins.verbs.sweep.spaces import Choice, Range, Space, Value
from fttool_plugins.verbs.sweep.study import (
    AGAIN,
    QUEUED,
    RUN,
    SECONDS,
    WHY,
    WORKER,
    Place,
    counts,
    note_trial,
    reached,
    worker,
)

if TYPE_CHECKING:
    from optuna import Study, Trial

OF_THE_TRIAL = (ExitCode.DIVERGED, ExitCode.OUT_OF_MEMORY, ExitCode.RECIPE, ExitCode.MODEL)
"""Exit codes that speak of a trial's values; whatever else goes wrong would go wrong in every trial."""
HOPELESS = 3
"""Trials that may fail one after the other before any has a value; then the last one's error ends the sweep."""
REFUSED = 100
"""Values in a row that validation refuses, after which a space is given up."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How much may be tried."""

    trials: int
    """In all, those of earlier calls and of other workers with them."""
    until: float | None
    """By `time.monotonic`; None: as long as it takes."""
    grid: bool = False
    """Only what was put in line is tried."""

    @property
    def over(self) -> bool:
        """The time is."""
        return self.until is not None and time.monotonic() >= self.until


@dataclass(kw_only=True)
class Sweep:
    """What a worker needs."""

    place: Place
    study: Study
    fitting: Fitting
    objectives: list[Objective]
    budget: Budget
    prunes: bool
    keeps: bool
    """Models and checkpoints of trials stay."""
    quiet: bool
    failed: int = 0
    """Trials in a row without a value, before any had one."""
    cut_short: list[float] = field(default_factory=list[float])
    """Shares of a run that were done when the time was over."""

    def say(self, text: str) -> None:
        """Progress, on stderr."""
        if not self.quiet:
            show(text, error=True)


@dataclass
class Outcome:
    """What a trial came to."""

    state: str
    """`COMPLETE`, `PRUNED` or `FAIL`."""
    values: list[float] | None = None
    why: str = ""
    again: bool = False
    """The values are to be tried again."""


def work(sweep: Sweep) -> None:
    """Make trials until the budget is used up, or nothing is left to try.

    Raises:
        DiskError: the database is gone.
        FttoolError: what every trial would fail with.
        KeyboardInterrupt: after the trial's values were put back in line.
    """
    refused = 0
    while not sweep.budget.over and refused < REFUSED:
        with reached(sweep.place):
            if not _left(sweep):
                return
            trial = sweep.study.ask()
            trial.set_user_attr(WORKER, worker())
            if not _is_in_budget(sweep, trial):
                tell(sweep, trial, Outcome("FAIL", why=f"{AGAIN}: not needed any more"))
                return
            chosen = suggest(trial, sweep.fitting)
        problems = sweep.fitting.refusal(chosen)
        if problems is not None:
            refused += 1
            tell(sweep, trial, Outcome("FAIL", why=f"{AGAIN}: refused: {problems[0].message}"))
            continue
        refused = 0
        _make(sweep, trial, chosen)
    if refused:
        raise RecipeError(
            f"{REFUSED} recipes in a row were refused by validation: hardly any is valid in this space",
            hint="narrow it: `fttool validate` says why one is refused",
        )


def _left(sweep: Sweep) -> bool:
    """Whether there is anything to try."""
    from optuna.trial import TrialState

    trials = sweep.study.get_trials(deepcopy=False)
    waiting = any(trial.state == TrialState.WAITING for trial in trials)
    return sum(map(counts, trials)) < sweep.budget.trials and (waiting or not sweep.budget.grid)


def _is_in_budget(sweep: Sweep, trial: Trial) -> bool:
    """Whether another worker has not just begun the last one."""
    before = [other for other in sweep.study.get_trials(deepcopy=False) if other.number < trial.number]
    fixed = QUEUED in trial.user_attrs
    return sum(map(counts, before)) < sweep.budget.trials and (fixed or not sweep.budget.grid)


def suggest(trial: Trial, fitting: Fitting) -> dict[str, Value]:
    """A value for each key that applies, parents first."""
    chosen: dict[str, Value] = {}
    for space in fitting.spaces:
        if fitting.applies(space, chosen):
            chosen[space.key] = _suggested(trial, space)
    return chosen


def _suggested(trial: Trial, space: Space) -> Value:
    if isinstance(space, Range):
        if space.whole:
            return trial.suggest_int(space.key, int(space.low), int(space.high), log=space.log)
        return trial.suggest_float(space.key, space.low, space.high, log=space.log)
    text = trial.suggest_categorical(space.key, space.texts)
    return space.values[space.texts.index(text)]


def fill_grid(study: Study, fitting: Fitting) -> int:
    """Put every valid recipe of a space of choices in line, unless it was before; returns their number."""
    number = 0
    for chosen in fitting.all_chosen():
        if fitting.refusal(chosen) is None:
            params = {space.key: _param(space, chosen[space.key]) for space in fitting.spaces if space.key in chosen}
            study.enqueue_trial(params, {QUEUED: True}, skip_if_exists=True)
            number += 1
    return number


def _param(space: Space, value: Value) -> Value:
    return space.texts[space.values.index(value)] if isinstance(space, Choice) else value


def _make(sweep: Sweep, trial: Trial, chosen: Mapping[str, Value]) -> None:
    """Run a trial, and tell what came of it."""
    folder = _free(sweep.place.folder, f"trial-{trial.number:04}")
    sweep.say(f"… {folder.name}: {in_words(chosen)}")
    with reached(sweep.place):
        trial.set_user_attr(RUN, folder.name)
    began = time.monotonic()
    try:
        outcome = attempt(sweep, trial, chosen, folder)
    except BaseException as stopped:
        tell(sweep, trial, Outcome("FAIL", why=f"{AGAIN}: {gist(stopped)}", again=True))
        raise
    tell(sweep, trial, outcome, seconds=time.monotonic() - began)


def attempt(sweep: Sweep, trial: Trial, chosen: Mapping[str, Value], folder: Path) -> Outcome:
    """The run of a trial; an error that speaks of its values is an outcome."""
    listen = _Listener(sweep, trial)
    more = {"run.output": str(folder.parent), "run.name": folder.name}
    try:
        summary = short_run(sweep.fitting.recipe(chosen, more), listen, saves=sweep.keeps)
    except FttoolError as error:
        sweep.failed += 1
        if error.exit_code not in OF_THE_TRIAL or (sweep.failed >= HOPELESS and not _any_value(sweep)):
            raise
        learnt = error.exit_code == ExitCode.DIVERGED and len(sweep.objectives) == 1  # the sampler ranks it last
        return Outcome("PRUNED" if learnt else "FAIL", why=error.problems[0].message)
    if listen.pruned:
        return Outcome("PRUNED", why=f"pruned after update {listen.step}")
    if summary["status"] != "finished":
        sweep.cut_short.append(summary["steps"] / max(1, summary["total_steps"]))
        return Outcome("FAIL", why=f"{AGAIN}: out of time", again=True)
    values = [objective.of_run(folder) for objective in sweep.objectives]
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return Outcome("FAIL", why="it has no finite value to compare")
    sweep.failed = 0
    return Outcome("COMPLETE", values=known)


def _any_value(sweep: Sweep) -> bool:
    from optuna.trial import TrialState

    with reached(sweep.place):
        return bool(sweep.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))


class _Listener:
    """Hears every line that a trial logs, and says when it is to stop."""

    def __init__(self, sweep: Sweep, trial: Trial) -> None:
        self.sweep, self.trial = sweep, trial
        self.pruned = False
        self.step = 0

    def __call__(self, step: int, values: Mapping[str, Any]) -> bool:
        value = self.sweep.objectives[0].of_line(values) if self.sweep.prunes else None
        if value is not None and step > 0:
            with reached(self.sweep.place):
                self.trial.report(value, step)
                self.pruned = self.trial.should_prune()
            self.step = step
        return self.pruned or self.sweep.budget.over


def tell(sweep: Sweep, trial: Trial, outcome: Outcome, seconds: float = 0.0) -> None:
    """Record a trial's end: in the sweep's folder if it counts, then in the database; and put it back in line."""
    from optuna.trial import TrialState

    attributes = {RUN: trial.user_attrs.get(RUN), WHY: outcome.why, SECONDS: round(seconds, 3)}
    if not outcome.why.startswith(AGAIN):
        about = {"state": outcome.state, "values": outcome.values, "params": trial.params, "attributes": attributes}
        note_trial(sweep.place, about)
    with reached(sweep.place):
        for name, value in attributes.items():
            if value:
                trial.set_user_attr(name, value)
        if outcome.again and trial.params:
            sweep.study.enqueue_trial(trial.params, {QUEUED: True})
        sweep.study.tell(trial, outcome.values, TrialState[outcome.state])
    sweep.say(f"  {_said(sweep, outcome)}")


def _said(sweep: Sweep, outcome: Outcome) -> str:
    if outcome.values is None:
        return outcome.why
    pairs = zip(sweep.objectives, outcome.values, strict=True)
    return "  ".join(f"{objective.name} {value:.4f}" for objective, value in pairs)


def _free(folder: Path, name: str) -> Path:
    """A run directory that is not there yet; a restored study may count anew."""
    taken = 1
    path = folder / name
    while path.exists():
        taken += 1
        path = folder / f"{name}-{taken}"
    return path
