"""Measured instead of guessed: the prompt, each way to fine-tune, and a learning curve, within a budget of time.

What comes first says most: the base model with examples in its prompt, then each way once on a sixteenth of the rows,
then the best one's learning curve, then each way once more with another seed. What the time left does not hold is left
out and said to be; what is under way when time is up is ended.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fttool.api import Example, FttoolError, Metric, UsageError
from fttool.verbs import Loaded, Surveyed
from fttool_plugins.verbs.decide.budget import Budget, TimeIsUpError
from fttool_plugins.verbs.decide.curve import PARTS, Point
from fttool_plugins.verbs.decide.modes import Mode, modes, shape
from fttool_plugins.verbs.decide.pool import Pool, pooled
from fttool_plugins.verbs.decide.prompting import Prompted, promptable, prompted
from fttool_plugins.verbs.decide.recommending import best
from fttool_plugins.verbs.decide.trials import FEWEST_UPDATES, Outcome, Trials, Tried, settings_for, updates
from fttool_plugins.verbs.estimate.words import duration

SHARE = 16
"""Each mode is tried on one of so many rows: with what is measured before and after, on most recipes with many rows all
of them together take about a tenth of what they would in full."""
FEWEST_ROWS = 32
"""That a mode is tried on, where there are as many."""
SLACK = 1.2
"""A run is begun if this many times what it should take is left."""


@dataclass(kw_only=True)
class Findings:
    """What was measured so far; filled as measuring goes on, and good to read at any time."""

    metric: str
    higher: bool
    """Whether more of the metric is better."""
    rows: int
    """Training rows that there are."""
    measured_on: int
    updates: int
    """Of a run on all rows."""
    mode_rows: int
    """That each mode was tried on."""
    commonest: float | None = None
    """The score of always saying the commonest class; None where classes are not what is learned, or measured."""
    prompted: Prompted | None = None
    modes: dict[str, list[Outcome]] = field(default_factory=lambda: defaultdict[str, list[Outcome]](list))
    """By name, one a seed."""
    curve_of: str | None = None
    curve: list[Point] = field(default_factory=list[Point])
    left_out: dict[str, str] = field(default_factory=dict[str, str])
    """What was not measured, and why."""
    seconds: float = 0.0

    def gain(self, outcome: Outcome) -> float:
        """By how much a run made the score better."""
        return (outcome.after - outcome.before) * (1 if self.higher else -1)

    @property
    def shown_gain(self) -> float | None:
        """By how much examples in the prompt do."""
        if self.prompted is None:
            return None
        return (self.prompted.shown - self.prompted.without) * (1 if self.higher else -1)


def measured(
    loaded: Loaded, datasets: Sequence[Surveyed], *, shots: int, budget: Budget, say: Callable[[str], None]
) -> Findings:
    """All that the budget holds; `UsageError` where that is nothing, or where there are too few rows."""
    with TemporaryDirectory(prefix="fttool-decide-") as folder:
        found, trials, metric = started(loaded, datasets, Path(folder))
        try:
            with budget.held():
                say("looking at the model")
                model = shape(trials.settings_of(FEWEST_ROWS))
                ways, left_out = modes(loaded.recipe, model)
                found.left_out |= left_out
                _prompt(found, trials, metric, shots, model.positions, say)
                compare(found, ways, trials, budget, loaded.recipe.run.seed, say)
        except TimeIsUpError:
            found.left_out.setdefault("the rest", "time was up")
    found.seconds = budget.spent
    if not found.modes:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in found.left_out.items())
        message = f"within {duration(budget.seconds)} no way to fine-tune could be measured ({reasons})"
        raise UsageError(message, hint="give it more time: --budget 30m")
    return found


def started(loaded: Loaded, datasets: Sequence[Surveyed], folder: Path) -> tuple[Findings, Trials, Metric]:
    """Findings without any finding, what makes runs for them in an empty folder, and the metric that they go by."""
    pool = pooled(loaded, datasets)
    metrics = [one for one in loaded.recipe.evaluation.metrics if not one.generates]
    metric = chosen_metric(loaded, metrics)
    settings = settings_for(loaded, pool, [metric, *(one for one in metrics if one.id() != metric.id())])
    found = Findings(
        metric=metric.id(),
        higher=metric.greater_is_better,
        rows=pool.rows,
        measured_on=sum(len(part.rows) for part in pool.measured),
        updates=updates(settings.recipe, pool.rows),
        mode_rows=min(pool.rows, max(FEWEST_ROWS, pool.rows // SHARE)),
        commonest=commonest(pool.measured_examples) if metric.id() == "accuracy" else None,
    )
    return found, Trials(settings=settings, pool=pool, metric=metric.id(), folder=folder), metric


def compare(
    found: Findings, ways: Sequence[Mode], tried: Tried, budget: Budget, seed: int, say: Callable[[str], None]
) -> None:
    """Each mode once, the learning curve of the best, then each mode with another seed."""
    took = Took(budget)
    once(found, ways, tried, seed, took, say)
    measured_ways = [mode for mode in ways if mode.name in found.modes]
    if not measured_ways:
        return
    name = best(found).name
    _curve(found, next(mode for mode in ways if mode.name == name), tried, seed, took, say)
    once(found, measured_ways, tried, seed + 1, took, say)


def once(
    found: Findings, ways: Sequence[Mode], tried: Tried, seed: int, took: Took, say: Callable[[str], None]
) -> None:
    """Each mode with a seed, as far as time goes."""
    for mode in ways:
        _try(found, mode, tried, seed, took, say)


class Took:
    """What runs took, and so what the next will take."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.each: dict[str, float] = {}
        """By mode, seconds of a run on `mode_rows`, with all that is around its updates."""

    def holds(self, mode: str, times: float) -> bool:
        """Whether a run so many times as long still fits; a mode's first run is taken for as long as the longest."""
        known = self.each.get(mode) or max(self.each.values(), default=0.0)
        return self.budget.holds(SLACK * known * max(1.0, times)) and self.budget.left > 0


def _try(found: Findings, mode: Mode, tried: Tried, seed: int, took: Took, say: Callable[[str], None]) -> None:
    again = mode.name in found.modes
    if not took.holds(mode.name, 1.0):
        found.left_out[f"{mode.name}, another seed" if again else mode.name] = "it would not fit into the budget"
        return
    say(f"{mode.name} on {found.mode_rows:,} of {found.rows:,} rows{', another seed' if again else ''}")
    began = took.budget.spent
    try:
        found.modes[mode.name].append(tried(mode, found.mode_rows, seed))
    except FttoolError as refused:
        if not found.modes[mode.name]:
            del found.modes[mode.name]
        found.left_out[mode.name] = refused.problems[0].message
        return
    except TimeIsUpError:
        if not found.modes[mode.name]:
            del found.modes[mode.name]
        raise
    took.each[mode.name] = max(took.each.get(mode.name, 0.0), took.budget.spent - began)


def _curve(found: Findings, mode: Mode, tried: Tried, seed: int, took: Took, say: Callable[[str], None]) -> None:
    found.curve_of = mode.name
    for part in PARTS:
        rows = found.rows // part
        if rows < FEWEST_UPDATES or not took.holds(mode.name, rows / found.mode_rows):
            few = rows < FEWEST_UPDATES
            found.left_out[f"curve, {rows:,} rows"] = "too few rows" if few else "it would not fit into the budget"
            continue
        say(f"learning curve: {mode.name} on {rows:,} of {found.rows:,} rows")
        found.curve.append(Point(rows, tried(mode, rows, seed).after))


def _prompt(
    found: Findings, trials: Trials, metric: Metric, shots: int, longest: int | None, say: Callable[[str], None]
) -> None:
    pool: Pool = trials.pool
    if trials.settings.recipe.task.learns != "token" or not promptable(pool.measured_examples):
        found.left_out["prompt"] = "a prompt cannot ask for what these rows teach"
        return
    say(f"the base model, with {shots} examples in its prompt and without")
    try:
        found.prompted = prompted(
            trials.settings,
            pool.examples,
            pool.measured_examples,
            metric,
            shots=shots,
            longest=longest,
            folder=trials.folder,
        )
    except FttoolError as refused:
        found.left_out["prompt"] = refused.problems[0].message


def chosen_metric(loaded: Loaded, metrics: Sequence[Metric]) -> Metric:
    """That of `evaluation.best`, else one of classes where those are learned, else the first, which is the loss."""
    recipe = loaded.recipe
    named = [one for one in metrics if one.id() == recipe.evaluation.best]
    of_classes = [one for one in metrics if recipe.task.learns != "token" and one.greater_is_better]
    if not (found := [*named, *of_classes, *metrics]):
        raise UsageError("evaluation.metrics names none that can be measured", hint='--set evaluation.metrics=["loss"]')
    return found[0]


def commonest(examples: Sequence[Example]) -> float | None:
    """The accuracy of always saying the class that most rows have; None without classes."""
    counts: Mapping[Any, int] = Counter(label for one in examples for label in one.labels or ())
    return max(counts.values()) / sum(counts.values()) if counts else None
