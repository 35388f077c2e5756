"""Gain against forgetting as a picture: a point a run, each with its name, none over another."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from fttool.api import UsageError

KINDS = (".png", ".svg", ".pdf")
MARKER = 6.0
"""Half the side of a point's own place, in pixels; no name is put there."""
GREY = "0.45"


def draw(points: Sequence[tuple[str, float, float]], metric: str, file: Path) -> None:
    """Write the plot of (name, gain, loss), all finite, to `file`; raises `UsageError` where that cannot be done."""
    write_figure(file, (7.5, 5.5), lambda figure: fill(figure, points, metric))


def write_figure(file: Path, inches: tuple[float, float], filled: Callable[[Any], None]) -> None:
    """Write a picture of some width and height: `filled` puts it into an empty matplotlib figure.

    Raises:
        UsageError: the file is not an image's, cannot be written, or there is nothing to draw with.
    """
    refuse_image(file)
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=inches, dpi=150, layout="constrained")
    filled(figure)
    try:
        figure.savefig(file)
    except OSError as error:
        raise UsageError(f"cannot write '{file}': {error.strerror or error}") from error


def refuse_image(file: Path) -> None:
    """Raise `UsageError` for a file that cannot be a picture, before anything is computed for it."""
    if file.suffix.lower() not in KINDS:
        raise UsageError(f"'{file}' does not have the suffix of an image", hint=f"the suffix may be {', '.join(KINDS)}")
    if not file.absolute().parent.is_dir():
        raise UsageError(f"the folder '{file.parent}' does not exist", hint="make it first")
    try:
        import_module("matplotlib.figure")
    except ImportError:
        raise UsageError("--plot needs matplotlib", hint="pip install 'fttool[plot]'") from None


def fill(figure: Any, points: Sequence[tuple[str, float, float]], metric: str) -> None:
    """The plot in an empty matplotlib figure."""
    gains, losses = [gain for _, gain, _ in points], [lost for _, _, lost in points]
    axes = figure.subplots()
    axes.scatter(gains, losses, s=30, zorder=3)
    axes.set_xlim(_limits(gains))
    axes.set_ylim(_limits([0.0, *losses]))  # 0, where nothing is forgotten, is always in sight
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.set_xlabel(f"gained: {metric} on the evaluation rows, better by →")
    axes.set_ylabel(f"forgotten: {metric} on the retention rows, worse by →")
    axes.set_title("What each run gained and what it forgot (lower right is best)", fontsize=11)
    axes.grid(alpha=0.25)
    _name(figure, axes, points)


def _limits(values: Sequence[float]) -> tuple[float, float]:
    """From the least to the most, with room on both sides, also where all are one."""
    low, high = min(values, default=0.0), max(values, default=0.0)
    room = 0.15 * (high - low) or 0.1 * abs(high) or 1.0
    return low - room, high + room


def _name(figure: Any, axes: Any, points: Sequence[tuple[str, float, float]]) -> None:
    """Write each point's name near it."""
    behind = {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 0.5}  # a line to another name may pass there
    written = [axes.text(gain, lost, name, fontsize=8, in_layout=False, bbox=behind) for name, gain, lost in points]
    figure.draw_without_rendering()  # only then it is known where in pixels things are
    places = [tuple(axes.transData.transform((gain, lost))) for _, gain, lost in points]
    boxes = [text.get_window_extent() for text in written]
    inside = axes.get_window_extent()
    corners = place_names(
        places,
        [(box.width, box.height) for box in boxes],
        (inside.x0, inside.y0, inside.x1, inside.y1),
    )
    to_data = axes.transData.inverted().transform  # pixels are another size in a vector file
    for text, box, (x, y), (left, bottom) in zip(written, boxes, places, corners, strict=True):
        text.set_position(to_data((x + left - box.x0, y + bottom - box.y0)))
        near = (min(max(x, left), left + box.width), min(max(y, bottom), bottom + box.height))
        if math.dist(near, (x, y)) > 3 * MARKER:
            ends = to_data([near, (x, y)])
            axes.plot(ends[:, 0], ends[:, 1], color=GREY, linewidth=0.6, in_layout=False, zorder=1.5)


Box = tuple[float, float, float, float]
"""Left, bottom, right, top."""


def place_names(
    points: Sequence[tuple[float, float]], sizes: Sequence[tuple[float, float]], inside: Box
) -> list[tuple[float, float]]:
    """The lower left corner of each point's name, so that no name lies over another name, a point, or the border.

    The nearest free place is taken, one name after another. Where all places inside are taken, the border is crossed.
    """
    taken: list[Box] = [(x - MARKER, y - MARKER, x + MARKER, y + MARKER) for x, y in points]
    corners: list[tuple[float, float]] = []
    for (x, y), (width, height) in zip(points, sizes, strict=True):
        free = [
            box for box in _around(x, y, width, height, len(points)) if not any(_overlap(box, other) for other in taken)
        ]
        box = next((candidate for candidate in free if _within(candidate, inside)), free[0])
        taken.append(box)
        corners.append((box[0], box[1]))
    return corners


def _around(x: float, y: float, width: float, height: float, rings: int) -> Iterator[Box]:
    """Places for a name around a point, the nearest first; enough of them that one is free among so many names."""
    for ring in range(3 * rings + 3):
        away = MARKER + 2 + ring * height / 2
        for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1)):
            left = x + dx * away - (width if dx < 0 else width / 2 if dx == 0 else 0)
            bottom = y + dy * away - (height if dy < 0 else height / 2 if dy == 0 else 0)
            yield left, bottom, left + width, bottom + height


def _overlap(first: Box, second: Box) -> bool:
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]


def _within(box: Box, outer: Box) -> bool:
    return outer[0] <= box[0] and outer[1] <= box[1] and box[2] <= outer[2] and box[3] <= outer[3]
