"""A proof on the run's own model, before its first update, of what is assumed of all models.

What is compared is in `assumptions.py`. A comparison that does not hold refuses the model, with what to choose instead;
the figures of all of them stand in `events.jsonl` and `summary.json`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from fttool.errors import ModelError, Problem
from fttool.training.evaluation import evaluating
from fttool.training.randomness import untouched_randomness
from fttool.world import ALONE, World

UNSEEN = "could not be shown"


class Incomparable(Exception):  # noqa: N818 - the first update says whose fault it is
    """Raised by a comparison: why the model cannot be judged."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One comparison."""

    name: str
    claim: str
    """What is to be so."""
    difference: float
    """The largest that was found; infinite where the model could not be asked."""
    allowed: float
    """Infinite for a figure that is only reported."""
    problem: Problem
    """What is wrong where the difference is larger."""
    implied_by: tuple[str, ...] = ()
    """Comparisons that fail by a fault which makes this one fail too: it is their problem then."""
    shown: bool = True
    """False where nothing could be seen of a fault: to this model, what it would bring in makes no difference."""
    needed: bool = True
    """False where a run does without what does not hold; the problem's hint says how."""

    @property
    def holds(self) -> bool:
        """True where the difference is no larger than allowed; NaN is."""
        return self.difference <= self.allowed


@dataclass(frozen=True, slots=True)
class Proven:
    """All comparisons of a run."""

    findings: Sequence[Finding]
    seconds: float

    @property
    def compared(self) -> dict[str, dict[str, Any]]:
        """Each comparison by its name, as `events.jsonl` has them."""
        return {
            finding.name: {"difference": finding.difference}
            | ({} if finding.allowed == math.inf else {"allowed": finding.allowed, "holds": finding.holds})
            | ({} if finding.shown else {"shown": False})
            for finding in self.findings
        }

    @property
    def figures(self) -> dict[str, Any]:
        """The same with the seconds that they took, as `summary.json` has them."""
        return {**self.compared, "seconds": round(self.seconds, 3)}

    def lines(self) -> list[tuple[str, str, str]]:
        """What was compared, how far it differs, and how far it may: for people."""
        return [
            (
                finding.claim,
                f"{finding.difference:.1e}",
                "for comparison"
                if finding.allowed == math.inf
                else f"{finding.allowed:.1e}"
                if finding.shown
                else UNSEEN,
            )
            for finding in self.findings
        ]

    def notes(self) -> list[str]:
        """What is to be said of a run that goes on: what its model could not be shown to do."""
        unseen = [finding.claim for finding in self.findings if finding.holds and not finding.shown]
        notes = [f"{UNSEEN}, as other tokens make no difference to this model: {'; '.join(unseen)}"] if unseen else []
        without = [finding.problem for finding in self.findings if not finding.holds and not finding.needed]
        return [*notes, *(f"{problem.message}: {problem.hint}" for problem in without)]

    def refuse(self) -> None:
        """Raise `ModelError` with all that does not hold, each fault once."""
        wrong = [finding for finding in self.findings if not finding.holds and finding.needed]
        failed = {finding.name for finding in wrong}
        problems = [finding.problem for finding in wrong if failed.isdisjoint(finding.implied_by)]
        if problems:
            raise ModelError(problems)


Comparisons = Callable[[], Iterable[Finding]]


def prove(model: Any, device: torch.device, comparisons: Iterable[Comparisons], world: World = ALONE) -> Proven:
    """Make the comparisons in evaluation mode; random numbers go on afterwards as if nothing had been.

    All processes of a run make them together, and find the same: of each the largest difference in any process.
    """
    began = time.perf_counter()
    with evaluating(model), untouched_randomness([device] if device.type == "cuda" else []):
        try:
            findings = [finding for comparison in comparisons for finding in comparison()]
        except Incomparable as reason:
            findings = [Finding("incomparable", str(reason), math.inf, math.inf, Problem(str(reason)))]
    everywhere = world.all_gather([finding.difference for finding in findings])
    worst = [
        max(each, key=lambda difference: math.inf if math.isnan(difference) else difference)
        for each in zip(*everywhere, strict=True)
    ]
    agreed = [replace(finding, difference=largest) for finding, largest in zip(findings, worst, strict=True)]
    return Proven(agreed, time.perf_counter() - began)
