"""What either way costs over the number of requests, as a picture."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from fttool_plugins.verbs.compare.plotting import GREY, write_figure
from fttool_plugins.verbs.decide.crossover import totals
from fttool_plugins.verbs.decide.deciding import Crossover

POINTS = 60
"""On each line."""


def draw(found: Crossover, file: Path) -> None:
    """Write it to `file`; raises `UsageError` where that cannot be done."""
    write_figure(file, (7.5, 4.5), lambda figure: fill(figure, found))


def fill(figure: Any, found: Crossover) -> None:
    """Two lines of dollars over requests, the range of training, and where they cross; a free one is drawn linearly."""
    axes, span = figure.subplots(), found.training.dollars
    low, high = bounds(found)
    requests = [low * (high / low) ** (at / (POINTS - 1)) for at in range(POINTS)]
    prompted = [totals(found.case, count).prompted for count in requests]
    lines = {
        dollars: [dollars + totals(found.at(dollars), count).tuned for count in requests]
        for dollars in (span.low, span.middle, span.high)
    }
    axes.plot(requests, prompted, label="prompted", color="C0")
    axes.plot(requests, lines[span.middle], label="fine-tuned, with training", color="C1")
    axes.fill_between(requests, lines[span.low], lines[span.high], color="C1", alpha=0.2, linewidth=0)
    crossing = found.break_even
    for place in {crossing.low, crossing.middle, crossing.high}:
        if math.isfinite(place) and place > 0:
            axes.axvline(place, color=GREY, linewidth=0.8, linestyle="-" if place == crossing.middle else ":")
    axes.set_xscale("log")
    if min(*prompted, *lines[span.low]) > 0:
        axes.set_yscale("log")
    axes.set_xlabel("requests")
    axes.set_ylabel("dollars")
    axes.set_title(title(found), fontsize=11)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)


def title(found: Crossover) -> str:
    """Where the lines cross, in words."""
    span = found.break_even
    if math.isinf(span.low):
        return "Fine-tuning never costs less"
    if math.isinf(span.high):
        return f"Fine-tuning costs less from {span.low:,.0f} requests on, or never"
    if span.low == span.high:
        return f"Fine-tuning costs less from {span.low:,.0f} requests on"
    return f"Fine-tuning costs less from {span.middle:,.0f} requests on ({span.low:,.0f} to {span.high:,.0f})"


def bounds(found: Crossover) -> tuple[float, float]:
    """The first and the last number of requests that is drawn: two orders of magnitude about the break-even."""
    crossing = [place for place in (found.break_even.low, found.break_even.high) if math.isfinite(place) and place > 0]
    return (min(crossing) / 30, max(crossing) * 30) if crossing else (1e3, 1e7)
