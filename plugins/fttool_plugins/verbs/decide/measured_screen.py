"""What was measured, for people and for programs."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from fttool.verbs import aligned
from fttool_plugins.verbs.decide.curve import outlook
from fttool_plugins.verbs.decide.measuring import Findings
from fttool_plugins.verbs.decide.recommending import Summary, best, recommendation, summaries
from fttool_plugins.verbs.estimate.words import duration


def measured_parts(found: Findings, width: int) -> list[Sequence[str]]:
    """The recommendation, then the figures that it is from, then what was not measured."""
    parts: list[Sequence[str]] = [
        [line for text in recommendation(found) for line in textwrap.wrap(text, width, subsequent_indent="    ")]
    ]
    better = "higher" if found.higher else "lower"
    head = f"Measured in {duration(found.seconds)}, {found.metric} on {found.measured_on:,} rows ({better} is better):"
    parts.append([head, *(f"  {line}" for line in aligned(_table(found)))])
    if found.curve:
        rows = [(f"{point.rows:,}", f"{point.score:.4f}") for point in found.curve]
        ahead = outlook(found.curve)
        if ahead is not None:
            rows += [
                (f"{found.rows:,}, expected", f"{ahead.all:.4f}"),
                (f"{2 * found.rows:,}, expected", f"{ahead.twice:.4f}"),
            ]
        head = f"Learning curve of {found.curve_of}:"
        parts.append([head, *(f"  {line}" for line in aligned([("rows", found.metric), *rows]))])
    if found.left_out:
        texts = [f"not measured: {name}: {reason}" for name, reason in found.left_out.items()]
        parts.append([line for text in texts for line in textwrap.wrap(text, width, subsequent_indent="    ")])
    return parts


def _table(found: Findings) -> list[tuple[str, ...]]:
    """A line for the base model, each prompt and each mode."""
    before = next(iter(found.modes.values()))[0].before
    lines = [("", found.metric, "gain", "forgotten", "all rows take"), ("base model", f"{before:.4f}", "", "", "")]
    if found.commonest is not None:
        lines.append(("always the commonest class", f"{found.commonest:.4f}", "", "", ""))
    if found.prompted is not None:
        name = f"{found.prompted.shots} examples in the prompt"
        lines.append((name, f"{found.prompted.shown:.4f}", f"{found.shown_gain:+.4f}", "", ""))
    return lines + [_mode(found, one) for one in summaries(found)]


def _mode(found: Findings, one: Summary) -> tuple[str, ...]:
    outcomes = found.modes[one.name]
    score = sum(outcome.after for outcome in outcomes) / len(outcomes)
    noise = f" ± {one.noise:.4f}" if one.noise is not None else ""
    lost = "" if one.forgotten is None else f"{one.forgotten:+.4f}"
    name = f"{one.name}, {found.mode_rows:,} rows"
    return name, f"{score:.4f}", f"{one.gain:+.4f}{noise}", lost, duration(one.seconds)


def measured_data(found: Findings) -> dict[str, Any]:
    """All of it."""
    ahead = outlook(found.curve)
    return {
        "recommendation": recommendation(found),
        "mode": best(found).name,
        "metric": found.metric,
        "higher_is_better": found.higher,
        "rows": found.rows,
        "measured_on": found.measured_on,
        "mode_rows": found.mode_rows,
        "commonest_class": found.commonest,
        "prompted": None if found.prompted is None else {**asdict(found.prompted), "gain": found.shown_gain},
        "modes": [
            {**asdict(one), "runs": [asdict(outcome) for outcome in found.modes[one.name]]} for one in summaries(found)
        ],
        "curve_of": found.curve_of,
        "curve": [asdict(point) for point in found.curve],
        "outlook": None if ahead is None else {**asdict(ahead), "brings": ahead.brings},
        "not_measured": dict(found.left_out),
        "seconds": found.seconds,
    }
