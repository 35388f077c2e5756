"""Curves as pictures in a page: matplotlib's, as SVG whose colours are those of the page, light or dark.

Only numbers go into a picture. Names, which may be a stranger's, stand beside it as text of the page.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from fttool.verbs import Html
from fttool_plugins.verbs.report.series import EVALUATION, RETENTION, TRAINING, Series, thinned

COLOURS = 8
"""Curves that can be told apart; `page.css` has a light and a dark colour for each."""
STYLES = {TRAINING: "-", EVALUATION: "-", RETENTION: (0, (4, 2))}
INK, SOFT, LINE = "#a00020", "#a00021", "#a00022"
"""Stand for colours of the page until the picture is SVG."""
NAMED = {INK: "--ink", SOFT: "--soft", LINE: "--line"}
LOGARITHMIC = 100.0
"""Values of which the highest is more than so many times the lowest are drawn on a logarithmic axis."""
MOST_DOTS = 60
"""Measurements that are dots on their curve; of more, the line alone is drawn."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A series in a colour from 0 to `COLOURS` − 1."""

    series: Series
    colour: int


def installed() -> bool:
    """True where there is something to draw with."""
    return find_spec("matplotlib") is not None


def is_logarithmic(curves: Sequence[Curve]) -> bool:
    """True where a linear axis would hide most of the values."""
    values = [value for curve in curves for _, value in curve.series.finite()]
    return bool(values) and min(values) > 0 and max(values) > LOGARITHMIC * min(values)


def drawn(curves: Sequence[Curve], evaluations: Sequence[int], checkpoints: Sequence[int], name: str) -> Html:
    """The picture; evaluations are circles on its lower edge, checkpoints are triangles.

    `name` is one that no other picture of the page has, of letters, digits and `-`.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    options: Any = {"svg.fonttype": "none", "svg.hashsalt": name, "path.simplify": False, "font.size": 8}
    with mpl.rc_context(options):
        figure: Any = Figure(figsize=(4.6, 2.3))
        figure.subplots_adjust(left=0.14, right=0.97, top=0.96, bottom=0.15)
        axes = figure.subplots()
        for curve in curves:
            _line(axes, curve)
        _axes(axes, logarithmic=is_logarithmic(curves))
        edge = {"transform": axes.get_xaxis_transform(), "clip_on": False, "linestyle": "none", "zorder": 4}
        axes.plot(_spread(evaluations), [0] * len(_spread(evaluations)), "o", ms=3, color=SOFT, **edge)
        axes.plot(_spread(checkpoints), [0] * len(_spread(checkpoints)), "^", ms=5, color=INK, **edge)
        written = io.StringIO()
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None})
    return _in_page(written.getvalue(), name)


def _line(axes: Any, curve: Curve) -> None:
    series = curve.series
    steps, values = thinned(series.steps, series.values)
    heights = [value if math.isfinite(value) else math.nan for value in values]
    dots = len(steps) == 1 or (series.kind != TRAINING and len(steps) <= MOST_DOTS)
    style: Any = STYLES[series.kind]
    axes.plot(
        steps,
        heights,
        color=_stands_for(curve.colour),
        linestyle=style,
        linewidth=1.4,
        marker="o" if dots else "",
        ms=3,
    )


def _axes(axes: Any, *, logarithmic: bool) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

    if logarithmic:
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.grid(color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(LINE)
    axes.tick_params(color=LINE, labelcolor=SOFT, length=0, which="both")
    axes.tick_params(axis="x", pad=7)


def _spread(steps: Sequence[int]) -> list[int]:
    """Updates to mark: of those that would lie over one another, one."""
    return thinned(steps, [0.0] * len(steps), 25)[0]


def _stands_for(colour: int) -> str:
    return f"#a000{colour:02x}"


def _in_page(svg: str, name: str) -> Html:
    """An SVG file as part of a page: its colours are the page's, its names are its own, and it fits any width."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r"font: 8px [^;\"]*", "font: 9px system-ui, sans-serif", svg)
    box = re.search(r'viewBox="[^"]*"', svg)
    assert box is not None
    svg = re.sub(r"<svg[^>]*>", f"<svg {box[0]} aria-hidden='true'>", svg, count=1)
    for stand_in, page in {**NAMED, **{_stands_for(at): f"--series-{at + 1}" for at in range(COLOURS)}}.items():
        svg = svg.replace(stand_in, f"var({page})")
    svg = re.sub(r' (?:d|x|y)="[^"]*"', lambda place: re.sub(r"(\.\d\d)\d+", r"\1", place[0]), svg)
    return Html(re.sub(r"\n\s*", "\n", svg))
