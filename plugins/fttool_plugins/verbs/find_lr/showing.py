"""What a range test has found, as a screen, a picture and data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fttool.verbs import Loaded, aligned
from fttool_plugins.verbs.find_lr.climbing import Climb
from fttool_plugins.verbs.find_lr.curve import FAR, Found

LINES = 9
"""Of the table."""


def screen(loaded: Loaded, climb: Climb, found: Found) -> list[str]:
    """A table of the smoothed loss by rate, what was found in it, and what to type next."""
    lines = [f"{len(found.points)} updates of {loaded.name}, from lr {climb.low:.1e} to {climb.high:.1e}", ""]
    lines += [*_table(found), "", *_findings(climb, found), ""]
    if found.suggestion is None:
        return [*lines, f"next    fttool find-lr {loaded.path} --updates {4 * climb.updates}"]
    return [*lines, f"next    fttool run {loaded.path} --set optimizer.lr={found.suggestion:g}"]


def _table(found: Found) -> list[str]:
    count = len(found.points)
    places = sorted({round(at * (count - 1) / (LINES - 1)) for at in range(LINES)})
    rows = [(f"{found.points[place].lr:.1e}", f"{found.smoothed[place]:.4f}") for place in places]
    return aligned([("lr", "loss"), *rows])


def _findings(climb: Climb, found: Found) -> Iterator[str]:
    noise = f"one update's rows move it by {found.noise:.4f}"
    if found.steepest is None or found.lowest is None:
        yield f"no rate lets the loss fall below {found.start:.4f} by more than chance: {noise}."
        yield "More updates, or a larger run.global_batch, would tell more; so might other ends of the climb."
        return
    steepest, lowest = found.points[found.steepest], found.points[found.lowest]
    yield f"steepest    {steepest.lr:.1e}  the loss falls fastest here"
    yield f"lowest      {lowest.lr:.1e}  {found.smoothed[found.lowest]:.4f}, from {found.start:.4f}; {noise}"
    if found.diverging is not None:
        yield f"diverging   {found.diverging:.1e}  from here on what was learned is undone"
    else:
        yield f"diverging   none up to {climb.high:.1e}"
    yield f"suggestion  {found.suggestion:.1e}  the lowest, divided by {FAR:.0f}"
    if found.still_falling:
        yield f"The loss was still falling when the test ended: --to {10 * climb.high:.0e} goes further."


def fill(figure: Any, found: Found) -> None:
    """The losses by rate in an empty matplotlib figure, with what was found in them."""
    axes = figure.subplots()
    rates = [point.lr for point in found.points]
    axes.set_xscale("log")
    axes.plot(rates, [point.loss for point in found.points], ".", color="0.7", ms=4, label="an update's loss")
    axes.plot(rates, found.smoothed, color="C0", linewidth=1.8, label="smoothed")
    marks = {
        "steepest": (None if found.steepest is None else rates[found.steepest], "C2", "--"),
        "diverging": (found.diverging, "C3", "--"),
        "suggestion": (found.suggestion, "C1", "-"),
    }
    for name, (rate, colour, style) in marks.items():
        if rate is not None:
            axes.axvline(rate, color=colour, linestyle=style, linewidth=1.2, label=f"{name}: {rate:.1e}")
    low, high = min(found.smoothed), found.start
    room = max(high - low, found.noise) or 1.0
    axes.set_ylim(low - 0.5 * room, high + 1.5 * room)  # what explodes would hide what falls
    axes.set_xlabel("learning rate (optimizer.lr)")
    axes.set_ylabel("training loss")
    axes.grid(alpha=0.25)
    axes.legend()


def as_json(loaded: Loaded, climb: Climb, found: Found) -> dict[str, Any]:
    """All of it."""

    def rate(place: int | None) -> float | None:
        return None if place is None else found.points[place].lr

    return {
        "recipe": str(loaded.path),
        "name": loaded.name,
        "from": climb.low,
        "to": climb.high,
        "updates": climb.updates,
        "start_loss": found.start,
        "lowest_loss": None if found.lowest is None else found.smoothed[found.lowest],
        "noise": found.noise,
        "steepest_lr": rate(found.steepest),
        "lowest_lr": rate(found.lowest),
        "diverging_lr": found.diverging,
        "suggested_lr": found.suggestion,
        "still_falling": found.still_falling,
        "losses": [
            {"lr": point.lr, "loss": point.loss, "smoothed": smoothed}
            for point, smoothed in zip(found.points, found.smoothed, strict=True)
        ],
    }
