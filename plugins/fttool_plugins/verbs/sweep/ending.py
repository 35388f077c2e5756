"""What a sweep ends with: the best trials, how sure that is by further seeds, and their recipes as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

import tomli_w

from fttool.api import ExitCode, FttoolError, UsageError
from fttool.verbs import counted, short_run
from fttool_plugins.verbs.sweep.fitting import Fitting, in_words
from fttool_plugins.verbs.sweep.spaces import Choice, Value
from fttool_plugins.verbs.sweep.study import RUN
from fttool_plugins.verbs.sweep.trials import Sweep

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

COMPARED = 2
"""Trials that are run with further seeds: the best, and the one that it would be confused with."""


@dataclass(frozen=True, slots=True)
class Seeded:
    """A trial with several seeds."""

    trial: int
    """Its number."""
    values: Sequence[float]
    """Of the first objective, that of the trial itself first."""

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return fmean(self.values)

    @property
    def spread(self) -> float:
        """Standard deviation between seeds; 0 for one."""
        return stdev(self.values) if len(self.values) > 1 else 0.0


def chosen_of(trial: FrozenTrial, fitting: Fitting) -> dict[str, Value]:
    """The values of the recipe that a trial was made with."""
    chosen: dict[str, Value] = {}
    for space in fitting.spaces:
        if space.key in trial.params:
            given = trial.params[space.key]
            chosen[space.key] = space.values[space.texts.index(given)] if isinstance(space, Choice) else given
    return chosen


def ranked(sweep: Sweep) -> list[FrozenTrial]:
    """Trials that have a value, the best first; of several objectives those that none beats in all of them."""
    from optuna.trial import TrialState

    if len(sweep.objectives) > 1:
        return sorted(sweep.study.best_trials, key=lambda trial: trial.number)
    complete = sweep.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return sorted(complete, key=lambda trial: trial.values[0], reverse=sweep.objectives[0].higher)


def with_seeds(sweep: Sweep, best: Sequence[FrozenTrial], seeds: int) -> list[Seeded]:
    """The best trials run with further seeds, `seeds` with their own; runs of an earlier call are not made again."""
    own = sweep.fitting.loaded.recipe.run.seed
    found: list[Seeded] = []
    for trial in best[:COMPARED]:
        values = [trial.values[0]]
        for seed in range(own + 1, own + seeds):
            folder = sweep.place.folder / f"trial-{trial.number:04}-seed-{seed}"
            value = _seeded(sweep, trial, folder, seed)
            if value is not None:
                values.append(value)
        found.append(Seeded(trial.number, values))
    return found


def _seeded(sweep: Sweep, trial: FrozenTrial, folder: Path, seed: int) -> float | None:
    objective = sweep.objectives[0]
    while folder.exists():
        if (value := objective.of_run(folder)) is not None:
            return value
        folder = folder.with_name(f"{folder.name}-again")
    more = {"run.output": str(folder.parent), "run.name": folder.name, "run.seed": seed}
    sweep.say(f"… {folder.name}")
    try:
        short_run(sweep.fitting.recipe(chosen_of(trial, sweep.fitting), more), saves=sweep.keeps)
    except FttoolError as error:
        if error.exit_code != ExitCode.DIVERGED:
            raise
        sweep.say(f"  {error.problems[0].message}")
        return None
    value = objective.of_run(folder)
    sweep.say(f"  {objective.name} {value:.4f}" if value is not None else "  it has no finite value")
    return value


def how_sure(sweep: Sweep, seeded: Sequence[Seeded]) -> str:
    """A sentence: is the best better than the next one by more than seeds differ?"""
    best = seeded[0]
    said = f"trial {best.trial}: {best.mean:.4f} ± {best.spread:.4f} over {counted(len(best.values), 'seed')}"
    if len(seeded) < COMPARED:
        return said
    other = seeded[1]
    said += f"; trial {other.trial}: {other.mean:.4f} ± {other.spread:.4f}"
    gain = (best.mean - other.mean) if sweep.objectives[0].higher else (other.mean - best.mean)
    noise = (best.spread**2 / len(best.values) + other.spread**2 / len(other.values)) ** 0.5
    if min(len(best.values), len(other.values)) < 2:
        return f"{said}. Too few seeds have a value to tell them apart"
    if gain > 2 * noise:
        return f"{said}. The first is better by more than two standard errors"
    if gain < -2 * noise:
        return f"{said}. With further seeds the second is better: take it"
    return f"{said}. The seeds do not tell them apart"


def write_recipe(sweep: Sweep, trial: FrozenTrial, file: Path) -> None:
    """The recipe of a trial with every option written out, for a run of its own; nothing is written over."""
    loaded = sweep.fitting.loaded
    chosen = chosen_of(trial, sweep.fitting)
    recipe = sweep.fitting.recipe(chosen, {"run.name": f"{loaded.name}-best"}).recipe
    run = recipe.run.model_copy(update={"folder": str(loaded.folder.resolve()), "global_batch": recipe.global_batch})
    data: Mapping[str, Any] = recipe.model_copy(update={"run": run}).model_dump(mode="json", exclude_none=True)
    values = ", ".join(
        f"{objective.name} {value:.6g}" for objective, value in zip(sweep.objectives, trial.values, strict=True)
    )
    head = (
        f"# Trial {trial.number} of the sweep {sweep.place.folder.name} ({trial.user_attrs.get(RUN)}): {values}\n"
        f"# {in_words(chosen)}\n\n"
    )
    try:
        with file.open("x", encoding="utf-8") as written:
            written.write(head + tomli_w.dumps(data))
    except OSError as fault:
        hint = "name another file: -o FILE; --resume --trials as before makes no further trial"
        raise UsageError(f"cannot write '{file}': {fault.strerror or fault}", hint=hint) from fault


def recipe_files(sweep: Sweep, best: Sequence[FrozenTrial], asked: Path | None) -> list[tuple[FrozenTrial, Path]]:
    """Where the recipes of the best trials go: one file for one objective, else one for each trial of the front."""
    if len(sweep.objectives) == 1:
        return [(best[0], asked or _unused(sweep.place.folder / "best.toml"))]
    stem = asked or sweep.place.folder / "front.toml"
    return [(trial, _unused(stem.with_name(f"{stem.stem}-{trial.number:04}.toml"))) for trial in best]


def _unused(file: Path) -> Path:
    """The file, or one with a number behind its name where an earlier call has written it."""
    number, found = 1, file
    while found.exists():
        number += 1
        found = file.with_name(f"{file.stem}-{number}{file.suffix}")
    return found
