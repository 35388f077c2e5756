"""A run's speed, measured here: a few real updates of it at two micro-batches, and what follows for all of them.

An update of a recipe takes time that grows with its operations, and time that each micro-batch costs by itself: kernels
that are started, Python, memory that is moved. Updates at two micro-batches tell the two apart:

    seconds = operations / rate + micro-batches · each

Both are fitted without being negative, so that one of them is 0 where the machine's noise is larger than it.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from fttool.api import ExitCode, FttoolError, Problem, UsageError, show
from fttool.verbs import Loaded, Outline, outline
from fttool_plugins.verbs.estimate.price import Span
from fttool_plugins.verbs.estimate.workload import Work, of_outline, update_costs
from fttool_plugins.verbs.probe.candidates import OWN, Candidate, make_candidates, shardings
from fttool_plugins.verbs.probe.measuring import WARM_UP, Outcome, environment, measure

FORWARD_OF_ALL = 1 / 3
"""Of what a micro-batch costs by itself in an update, what it costs in a forward pass: a third of its kernels."""
BUSY = 0.5
"""Load per core from which a measurement is said to be disturbed."""
LEAST = 0.05
"""Half width of an interval, as a share: no machine repeats itself more closely."""


@dataclass(frozen=True, slots=True)
class Update:
    """One update as it was measured."""

    operations: float
    """Of each process."""
    passes: float
    """Micro-batches of each process."""
    seconds: float


@dataclass(frozen=True, slots=True)
class Seconds:
    """What a run spends its time on, once it has begun."""

    updates: Span
    """What `summary.json` has as `seconds`."""
    evaluation: Span
    features: Span

    @property
    def spans(self) -> tuple[Span, Span, Span]:
        """Updates, evaluation, features."""
        return self.updates, self.evaluation, self.features

    @property
    def total(self) -> Span:
        """All of it."""
        return self.updates + self.evaluation + self.features


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """How long things take on a machine."""

    rate: float
    """Operations per second and process."""
    each: float
    """Seconds that a micro-batch of an update costs beside its operations."""
    spread: float
    """Half width of the interval, as a share."""
    source: str

    def seconds(self, work: Work) -> Seconds:
        """Of all that a run computes."""
        passes = work.passes / work.processes
        if work.kept:  # no layer is called in an update
            passes /= max(1, work.depth)
        forward = FORWARD_OF_ALL * self.each / work.processes
        return Seconds(
            updates=self._around(work.training / work.processes / self.rate + self.each * passes),
            evaluation=self._around(work.evaluation / work.processes / self.rate + forward * work.measured_passes),
            features=self._around(work.features / self.rate + forward * work.feature_passes),
        )

    def _around(self, middle: float) -> Span:
        return Span(middle * (1 - self.spread), middle, middle * (1 + self.spread))


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What was measured here."""

    speed: Speed
    updates: Sequence[Update]
    micro_batches: Sequence[int]
    peak_memory_bytes: int
    """Of the process that had most, at the recipe's micro-batch."""
    on_gpu: bool
    notes: Sequence[str] = ()
    """What may make the figures wrong."""


def measured(loaded: Loaded, updates: int, *, quiet: bool) -> Measured:
    """Run a few updates at the recipe's micro-batch and another one; raises the error of the first where it fails."""
    own, busy = loaded.recipe.micro_batch, load()
    with tempfile.TemporaryDirectory(prefix="fttool-estimate-", ignore_cleanup_errors=True) as folder:
        inherited = environment(Path(folder))
        found: list[tuple[Candidate, Outcome]] = []
        for candidate in _candidates(loaded, updates, Path(folder)):
            if not quiet:
                show(f"… {updates} updates with micro-batches of {candidate.micro_batch}", error=True)
            outcome = measure(candidate, Path(folder), inherited)
            if outcome.status == "measured":
                found.append((candidate, outcome))
            elif candidate.micro_batch == own:
                raise _failed(outcome)
    seen = [update for candidate, outcome in found for update in _updates(candidate, outcome)]
    if not seen:
        raise FttoolError("no update took a time that could be measured", hint="--updates 20 measures more of them")
    its_own = next(outcome for candidate, outcome in found if candidate.micro_batch == own)
    return Measured(
        speed=fitted(seen, f"measured here: {len(seen)} updates"),
        updates=seen,
        micro_batches=[candidate.micro_batch for candidate, _ in found],
        peak_memory_bytes=its_own.peak_memory_bytes,
        on_gpu=its_own.on_gpu,
        notes=[] if busy is None else [busy],
    )


def load() -> str | None:
    """A sentence where other programs keep the processors busy; None where they do not, or the system does not say."""
    cores = os.cpu_count() or 1
    average = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if average < BUSY * cores:
        return None
    said = f"the machine was busy when measuring began (load {average:.1f} on {cores} cores)"
    return f"{said}: the figures are those of a machine that stays as busy"


def fitted(updates: Sequence[Update], source: str) -> Speed:
    """The rate and the cost of a micro-batch that explain the updates best, relative to the time that each took.

    Least squares with weights 1/seconds²; where one of the two would be negative it is 0, and the other explains all.
    """
    first = [(update.operations / update.seconds, update.passes / update.seconds) for update in updates]
    xx, xy, yy = (sum(a * b for a, b in pairs) for pairs in _products(first))
    x, y = sum(a for a, _ in first), sum(b for _, b in first)
    determinant = xx * yy - xy * xy
    per_operation, each = -1.0, -1.0
    if determinant > 1e-6 * xx * yy:
        per_operation, each = (x * yy - y * xy) / determinant, (y * xx - x * xy) / determinant
    if per_operation <= 0 or each < 0:
        per_operation, each = x / xx, 0.0
    errors = [
        abs(update.operations * per_operation + update.passes * each - update.seconds) / update.seconds
        for update in updates
    ]
    spread = max(LEAST, 2 * median(errors))
    return Speed(rate=1 / per_operation, each=each, spread=spread, source=source)


def _products(pairs: Sequence[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """Of the two columns: the first with itself, with the second, the second with itself."""
    return [[(a, a) for a, _ in pairs], list(pairs), [(b, b) for _, b in pairs]]


def _candidates(loaded: Loaded, updates: int, folder: Path) -> list[Candidate]:
    """The recipe's micro-batch, and its half or its double."""
    share = loaded.recipe.global_batch // loaded.recipe.sharding.world_size
    own = loaded.recipe.micro_batch
    others = [size for size in (own // 2, 2 * own) if size and share % size == 0]
    chosen = shardings(loaded, [OWN], None)
    if not isinstance(loaded.recipe.run.micro_batch, int):
        hint = "say one: --set run.micro_batch=4; `fttool probe` finds the fastest"
        raise UsageError("run.micro_batch is 'auto': what is measured would depend on what fits", hint=hint)
    return make_candidates(loaded, chosen, [own, *others[:1]], WARM_UP + updates, folder)


def _updates(candidate: Candidate, outcome: Outcome) -> list[Update]:
    """What the updates of a candidate had to compute, beside the seconds that they took."""
    assert candidate.loaded is not None
    run: Outline = outline(candidate.loaded, quiet=True)
    subject = of_outline(run)
    processes = subject.recipe.sharding.world_size
    size = subject.recipe.accumulation * processes
    seen: list[Update] = []
    for step, (operations, passes) in enumerate(update_costs(subject, WARM_UP + len(outcome.speeds))):
        if step < WARM_UP:
            continue
        start = step % subject.steps_per_epoch * size
        tokens = sum(shape.tokens for shape in subject.begin[start : start + size])
        seconds = tokens / outcome.speeds[step - WARM_UP]
        if math.isfinite(seconds) and seconds > 0:
            seen.append(Update(operations / processes, passes / processes, seconds))
    return seen


def _failed(outcome: Outcome) -> FttoolError:
    """Why nothing could be measured, with the exit code of the run that failed."""
    error = FttoolError(Problem(f"nothing could be measured: {outcome.reason}", hint="fttool run --dry-run says more"))
    error.exit_code = ExitCode(outcome.exit_code) if outcome.exit_code in set(ExitCode) else ExitCode.FAILURE
    return error
