"""Curves of a run: what `metrics.jsonl` holds by update, which of it belongs in one picture, and thinned honestly."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fttool_plugins.verbs.compare.past import number

TRAINING, EVALUATION, RETENTION = "training", "evaluation", "retention"
KINDS = (TRAINING, EVALUATION, RETENTION)
TITLES = {
    "loss": "Loss",
    "lr": "Learning rate",
    "grad_norm": "Gradient norm",
    "tokens_per_second": "Tokens per second",
}
"""What stands first, in this order, and how it is called; anything else has its own name."""
LEFT_OUT = ("step", "epoch", "train_tokens", "final")
"""Keys that only say when a line was written."""
BUCKETS = 200
"""Parts that a curve's updates are cut into; up to four points of each are drawn, so 800 in all."""


@dataclass(frozen=True, slots=True)
class Series:
    """Values by update."""

    name: str
    kind: str
    """`training`, `evaluation` or `retention`: the rows that it was measured on."""
    steps: Sequence[int]
    values: Sequence[float]
    """As many, perhaps infinite or NaN."""

    def finite(self) -> list[tuple[int, float]]:
        """The points that have a place in a picture."""
        return [(step, value) for step, value in zip(self.steps, self.values, strict=True) if math.isfinite(value)]


def by_chart(lines: Sequence[Mapping[str, Any]], metrics: Iterable[str]) -> dict[str, list[Series]]:
    """The series of a run under the name of the picture in which they belong, the best known first.

    A line after the last update, of weights that are not its own, is left out: it has no place among updates.
    `metrics` are those that the run evaluates.
    """
    known = sorted(metrics, key=len, reverse=True)
    points: dict[tuple[str, str, str], dict[int, float]] = {}
    for line in lines:
        for key, given in () if line.get("final") else line.items():
            value = number(given)
            if key not in LEFT_OUT and value is not None:
                points.setdefault(_place(str(key), known), {})[line["step"]] = value
    charts: dict[str, list[Series]] = {name: [] for name in TITLES}
    for (chart, kind, name), values in points.items():
        charts.setdefault(chart, []).append(Series(name, kind, list(values), list(values.values())))
    return {name: sorted(series, key=lambda one: KINDS.index(one.kind)) for name, series in charts.items() if series}


def _place(key: str, known: Sequence[str]) -> tuple[str, str, str]:
    """Picture, kind and name of a key of `metrics.jsonl`, such as `retention_old_loss`."""
    if key.startswith("eval_"):
        return key.removeprefix("eval_"), EVALUATION, "evaluation rows"
    if key.startswith("retention_"):
        rest = key.removeprefix("retention_")
        metric = next((name for name in known if rest.endswith(f"_{name}")), rest.rpartition("_")[2])
        return metric, RETENTION, rest.removesuffix(f"_{metric}")
    return key, TRAINING, "training"


def thinned(steps: Sequence[int], values: Sequence[float], buckets: int = BUCKETS) -> tuple[list[int], list[float]]:
    """At most four points for each of `buckets` equal parts of the updates: the first, the last, the lowest, the
    highest; and one that is not finite, if there is any, so that a gap stays one.

    A line through them covers the same pixels as the whole curve where the picture has at most `buckets` columns (M4:
    Jugel, Jerzak, Hackenbroich and Markl, 2014, "M4: A Visualization-Oriented Time Series Data Aggregation").
    """
    if len(steps) <= 4 * buckets:
        return list(steps), list(values)
    width = (steps[-1] - steps[0] + 1) / buckets
    parts: dict[int, list[int]] = {}
    for place, step in enumerate(steps):
        parts.setdefault(int((step - steps[0]) / width), []).append(place)
    kept = [place for part in parts.values() for place in _telling(part, values)]
    return [steps[place] for place in kept], [values[place] for place in kept]


def _telling(part: Sequence[int], values: Sequence[float]) -> list[int]:
    """The places that say what a part looks like, in order."""
    finite = [place for place in part if math.isfinite(values[place])]
    extremes = [min(finite, key=lambda at: values[at]), max(finite, key=lambda at: values[at])] if finite else []
    gap = [place for place in part if not math.isfinite(values[place])][:1]
    return sorted({part[0], part[-1], *extremes, *gap})
