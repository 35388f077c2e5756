"""What a run will take, said by itself before its first update, and compared with what it took.

Nothing is measured for it: operations are counted, and the speed is that of earlier runs on this machine, of
`fttool estimate` on the same recipe, or of published runs on the same GPU. Where none of them is known, it says how to
learn it. A run that ends well becomes a line of the calibration file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from typing import Any

from fttool_plugins.verbs.estimate import calibration
from fttool_plugins.verbs.estimate.hardware import GPUS, rate
from fttool_plugins.verbs.estimate.measuring import Speed
from fttool_plugins.verbs.estimate.words import duration, figure
from fttool_plugins.verbs.estimate.workload import Work, of_prepared, work

FEWEST = 3
"""Updates of a run from which something is learned: in the first one memory is allocated, and kernels are chosen."""


@dataclass(frozen=True, kw_only=True)
class CostForecast:
    """Of one run."""

    work: Work
    speed: Speed | None
    device: str
    precision: str
    saves: Any
    """Asked once the run has ended: whether it was one that saves, and not a measurement."""
    estimated: float | None = None
    """Seconds of updates that `fttool estimate` has measured for this recipe, unmended."""

    @property
    def lines(self) -> Sequence[str]:
        """What is computed, and how long that takes."""
        work = self.work
        first = f"{figure(work.operations)}FLOP in {work.updates:,} updates, {work.slots:,.0f} slots" + (
            f", {1 - work.tokens / work.slots:.0%} of them padding" if work.slots else ""
        )
        if self.speed is None:
            return [first, "how long it takes is not known on this machine yet: fttool estimate measures it"]
        total = self.speed.seconds(work).total
        return [
            first,
            f"about {duration(total.middle)} ({duration(total.low)}–{duration(total.high)}), {self.speed.source}",
        ]

    @property
    def figures(self) -> Mapping[str, Any]:
        """Seconds are null where nothing is known of the machine."""
        seconds = self.speed.seconds(self.work) if self.speed else None
        return {
            "operations": self.work.operations,
            "training_operations": self.work.training,
            "slots": self.work.slots,
            "tokens": self.work.tokens,
            "seconds": [seconds.updates.low, seconds.updates.middle, seconds.updates.high] if seconds else None,
            "evaluation_seconds": seconds.evaluation.middle if seconds else None,
            "source": self.speed.source if self.speed else None,
        }

    def ended(self, summary: Mapping[str, Any]) -> Mapping[str, Any]:
        """The seconds of the updates, beside those that were predicted; a run to its end is kept for the next."""
        seconds, whole = float(summary["seconds"]), summary["status"] == "finished" and not summary["stopped_early"]
        predicted = self.speed.seconds(self.work).updates.middle if self.speed else None
        if whole and self.saves() and summary["steps"] >= FEWEST and seconds > 0:
            calibration.add(
                calibration.Line(
                    device=self.device,
                    precision=self.precision,
                    operations=self.work.training / self.work.processes,
                    passes=self.work.passes / self.work.processes,
                    seconds=seconds,
                    predicted=self.estimated,
                    when=date.today().isoformat(),
                )
            )
        return {
            "seconds": seconds,
            "of_predicted": seconds / predicted if predicted and whole else None,
            "operations_per_second": self.work.training / seconds if whole and seconds > 0 else None,
        }


def forecast(prepared: Any) -> CostForecast:
    """Of a run that is about to begin."""
    subject = of_prepared(prepared)
    counted, processes = work(subject), subject.recipe.sharding.world_size
    device, precision = calibration.device_name(), prepared.numerics.autocast
    known = calibration.lines(device, precision)
    measured = calibration.remembered(subject.recipe)
    if measured is not None:
        speed: Speed | None = calibration.mended(measured, known)
    else:
        speed = calibration.known_speed(known, counted.training / processes, counted.passes / processes)
        speed = speed or published_speed(device, counted, recomputed=subject.recipe.model.gradient_checkpointing)
    return CostForecast(
        work=counted,
        speed=speed,
        device=device,
        precision=precision,
        saves=lambda: prepared.trainer.job.output.saves,
        estimated=measured.seconds(counted).updates.middle if measured else None,
    )


def published_speed(device: str, counted: Work, *, recomputed: bool) -> Speed | None:
    """What has been published of the GPU of this name; None for a CPU, or a GPU of which nothing is known."""
    words = re.split(r"[^a-z0-9]+", device.lower())
    words += [first + second for first, second in pairwise(words)]  # "RTX 4090"
    chip = next((gpu for gpu in GPUS if gpu.name.partition("-")[0] in words), None)
    if chip is None:
        return None
    known = rate(chip, counted.parameters, recomputed=recomputed)
    spread = max(known.middle / known.low, known.high / known.middle) - 1
    return Speed(rate=known.middle, each=0.0, spread=min(0.9, spread), source=known.source)
