"""The curves of one run, or of several over one another, as part of the page; each with its figures below it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from fttool.verbs import html_element, html_table
from fttool_plugins.verbs.compare.past import table_at
from fttool_plugins.verbs.report import drawing
from fttool_plugins.verbs.report.drawing import COLOURS, Curve
from fttool_plugins.verbs.report.reading import Told
from fttool_plugins.verbs.report.series import EVALUATION, RETENTION, TITLES, TRAINING, Series, by_chart

NO_LIBRARY = (
    "Curves are drawn by matplotlib, which is not installed: pip install 'fttool[plot]'. Their figures are here."
)

Line = tuple[str, Curve]
"""A curve, and what it is called."""


def charts_of(told: Told) -> dict[str, list[Series]]:
    """The series of a run by picture."""
    metrics = {*table_at(told.summary, "better_is"), *_metrics_of(told)}
    metrics |= {key.removeprefix("eval_") for line in told.metrics for key in line if key.startswith("eval_")}
    return by_chart(told.metrics, metrics)


def _metrics_of(told: Told) -> Iterator[str]:
    """The ids of `[evaluation] metrics`, which the flattened recipe has as `evaluation.metrics.0.name`."""
    for key, value in told.past.recipe.items():
        if key.startswith("evaluation.metrics.") and key.endswith(".name") and isinstance(value, str):
            yield value


def curves(runs: Sequence[Told]) -> Iterator[str]:
    """A heading, what the marks mean, and a figure for each quantity that was logged."""
    yield html_element("h2", "Curves")
    charts = _of_one(runs[0]) if len(runs) == 1 else _over_one_another(runs[:COLOURS])
    if not charts:
        yield html_element("p", "Nothing is logged yet: metrics.jsonl has no line that can be read.", kind="soft")
        return
    marks = _marks(runs[0]) if len(runs) == 1 else ([], [])
    yield html_element("p", *_legend(runs[:COLOURS], *marks), kind="soft")
    if len(runs) > COLOURS:
        yield html_element("p", f"Of {len(runs)} runs, the curves of the first {COLOURS} are drawn.", kind="soft")
    can_draw = drawing.installed()
    if not can_draw:
        yield html_element("p", NO_LIBRARY)
    figures: list[str] = []
    for at, (title, lines) in enumerate(charts.items()):
        picture = drawing.drawn([curve for _, curve in lines], *marks, name=f"curve-{at}") if can_draw else ""
        figures.append(_figure(title, lines, picture))
    yield html_element("div", *figures, kind="charts")


def _of_one(told: Told) -> dict[str, list[Line]]:
    """What is learned from, what is measured, and each dataset of what was known have a colour each, and keep it."""
    names = [series.name for chart in charts_of(told).values() for series in chart if series.kind == RETENTION]
    colours = {name: 2 + place % (COLOURS - 2) for place, name in enumerate(dict.fromkeys(names))}
    fixed = {TRAINING: 0, EVALUATION: 1}
    return {
        TITLES.get(name, name): [
            (series.name, Curve(series, fixed.get(series.kind, colours.get(series.name, 0)))) for series in chart
        ]
        for name, chart in charts_of(told).items()
    }


def _over_one_another(runs: Sequence[Told]) -> dict[str, list[Line]]:
    """A picture for each series, with a curve for each run that has it; what they share comes in the known order."""
    charts: dict[str, dict[str, list[Line]]] = {name: {} for name in TITLES}
    for colour, told in enumerate(runs):
        for name, chart in charts_of(told).items():
            for series in chart:
                title = TITLES.get(name, name)
                if series.kind != TRAINING or name == "loss":
                    title = f"{title}, {series.name}"
                charts.setdefault(name, {}).setdefault(title, []).append((told.past.label, Curve(series, colour)))
    return {title: lines for chart in charts.values() for title, lines in chart.items()}


def _marks(told: Told) -> tuple[list[int], list[int]]:
    """The updates after which something was measured, and those after which a checkpoint was saved."""
    measured = [one for chart in charts_of(told).values() for one in chart if one.kind != TRAINING]
    return sorted({step for one in measured for step in one.steps}), told.steps_of("checkpoint_saved")


def _legend(runs: Sequence[Told], evaluations: Sequence[int], checkpoints: Sequence[int]) -> Iterator[str]:
    yield "Over updates. "
    if len(runs) > 1:
        for at, told in enumerate(runs):
            yield html_element("span", swatch(at), told.past.label, kind="key")
    yield "● an evaluation. " if evaluations else ""
    yield "▲ a checkpoint. " if checkpoints else ""
    yield "Dashed: measured on what the model knew." if any(told.past.retained for told in runs) else ""


def _figure(title: str, lines: Sequence[Line], picture: str) -> str:
    about = [title]
    if picture and drawing.is_logarithmic([curve for _, curve in lines]):
        about.append(html_element("span", " logarithmic", kind="soft small"))
    head = ["", "first", "last", "lowest", "highest"]
    rows = [_figures(called, curve) for called, curve in lines]
    figures = html_table(head, rows, [1, 2, 3, 4], kind="figures")
    return html_element("figure", html_element("figcaption", *about), picture, figures)


def _figures(called: str, curve: Curve) -> Sequence[str]:
    """First, last, lowest and highest value; the updates of the extremes, and of what is not finite, in words."""
    series, finite = curve.series, curve.series.finite()
    name = [swatch(curve.colour), called]
    odd = [step for step, value in zip(series.steps, series.values, strict=True) if not math.isfinite(value)]
    if odd:
        more = f" and {len(odd) - 3:,} more" if len(odd) > 3 else ""
        name.append(html_element("div", f"not finite at {', '.join(map(str, odd[:3]))}{more}", kind="bad small"))
    extremes = [pick(finite, key=lambda point: point[1]) for pick in (min, max)] if finite else []
    cells = [short(value) for value in (series.values[0], series.values[-1])]
    for step, value in extremes:
        cells.append(html_element("div", short(value), html_element("div", f"at {step:,}", kind="soft small")))
    return (html_element("div", *name), *cells, *[""] * (4 - len(cells)))


def swatch(colour: int) -> str:
    """A square in the colour of a curve."""
    return html_element("i", kind=f"swatch series-{colour + 1}")


def short(value: float) -> str:
    """Four digits, or all those before the point."""
    return f"{value:,.0f}" if math.isfinite(value) and abs(value) >= 1000 else f"{value:.4g}"
