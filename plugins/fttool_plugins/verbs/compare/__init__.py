"""Show runs side by side: gained, forgotten, cost.

What differs in how they were made comes first; `past.py` reads the run directories, `plotting.py` draws.
"""

from __future__ import annotations

import csv
import json
import math
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fttool.api import ExitCode, UsageError, did_you_mean, show, visible_json
from fttool.verbs import format_value, verb_parser
from fttool_plugins.verbs.compare.past import Measured, PastRun, differences, plain, read_runs

EXAMPLES = """\
examples:
  fttool compare runs/*
  fttool compare runs/plain runs/replay --plot forgetting.png     gain against forgetting, one point per run
  fttool compare runs/* --csv > runs.csv                          a row a run
  fttool compare runs/* --json

A + marks a change for the better, whichever way the metric points. Gains are measured on the
evaluation rows, losses on the rows of [[data.retention]].

next: fttool generate runs/my "question"
"""

WIDEST = 36
"""Characters of a value that are shown."""
NONE = "–"


def main(words: Sequence[str]) -> int:
    """Print the comparison; what is wrong with a run is said on stderr, and the others are compared."""
    parser = verb_parser("compare", __doc__, EXAMPLES)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run directories")
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--json", action="store_true", help="everything as one JSON object on stdout")
    shown.add_argument("--csv", action="store_true", help="CSV on stdout, one row per run")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw gain against forgetting (or .svg, .pdf)")
    parser.add_argument("--metric", help="the metric of the plot (default: the first that most runs have)")
    options = parser.parse_args(words)
    if options.metric and not options.plot:
        raise UsageError("--metric chooses what --plot draws", hint="add --plot FILE.png")
    runs = read_runs(options.runs)
    for run in runs:
        for problem in run.problems:
            show(f"{run.path}: {problem}", error=True)
    if options.plot:
        plot(runs, options.metric, options.plot)
    if options.json:
        print(visible_json(json.dumps(as_data(runs), indent=1, ensure_ascii=False)))
    elif options.csv:
        write_csv(runs)
    else:
        show(*page(runs, shutil.get_terminal_size((120, 24)).columns))
    return ExitCode.OK


# -- for people ------------------------------------------------------------------------------------------------------


def page(runs: Sequence[PastRun], width: int) -> list[str]:
    """A column a run, as many side by side as `width` characters hold."""
    rows = _rows(runs)
    first = max(len(name) for name, cells in rows if cells)
    columns = [max(len(cells[index]) for _, cells in rows if cells) for index in range(len(runs))]
    lines: list[str] = []
    start = 0
    while start < len(runs):
        end = start + 1
        while end < len(runs) and first + sum(2 + size for size in columns[start : end + 1]) <= width:
            end += 1
        lines += [""] if lines else []
        for name, cells in rows:
            shown = [f"{cells[index]:<{columns[index]}}" for index in range(start, end)] if cells else []
            lines.append("  ".join([f"{name:<{first}}", *shown] if cells else [name]).rstrip())
        start = end
    return lines


def _rows(runs: Sequence[PastRun]) -> list[tuple[str, list[str]]]:
    """A name and a cell a run; no cells in a heading."""

    def of(value: Callable[[PastRun], str]) -> list[str]:
        return [value(run) for run in runs]

    rows = [("", of(lambda run: _short(run.label))), ("status", of(lambda run: run.status))]
    differs = differences(runs)
    if differs:
        rows += [("", []), ("what differs", [])]
        rows += [(key, [_value(value) for value in values]) for key, values in differs.items()]
    gained = dict.fromkeys(name for run in runs for name in run.gained)
    if gained:
        rows += [("", []), ("gained, on the evaluation rows (+ is better)", [])]
        rows += [(name, of(lambda run, name=name: _change(run.gained.get(name)))) for name in gained]
    retained = dict.fromkeys(
        (dataset, name) for run in runs for dataset, metrics in run.retained.items() for name in metrics
    )
    if retained:
        rows += [("", []), ("forgotten, on the retention rows (− is worse)", [])]
        rows += [
            (f"{dataset} {name}", of(lambda run, at=dataset, name=name: _change(run.retained.get(at, {}).get(name))))
            for dataset, name in retained
        ]
    rows += [("", []), ("cost", [])]
    rows.append(("updates", of(lambda run: f"{_number(run.steps, ',')} of {_number(run.total_steps, ',')}")))
    rows.append(("time in updates", of(lambda run: NONE if run.seconds is None else _duration(run.seconds))))
    rows.append(("tokens/s", of(lambda run: _number(run.tokens_per_second, ",.0f"))))
    peak = [None if run.peak_memory_bytes is None else run.peak_memory_bytes / 2**30 for run in runs]
    rows.append(("peak memory, GiB", [_number(peak_gib, ".2f") for peak_gib in peak]))
    return rows


def _change(measured: Measured | None) -> str:
    if measured is None:
        return NONE
    shown = f"{_number(measured.before, '.4f')} → {_number(measured.after, '.4f')}"
    return shown if measured.gain is None else f"{shown}  {measured.gain:+.4f}".replace("-", "−")


def _number(value: float | None, form: str) -> str:
    return NONE if value is None else format(value, form)


def _value(value: Any) -> str:
    return NONE if value is None else _short(value if isinstance(value, str) else format_value(value))


def _short(text: str) -> str:
    """The text, or its end where it is long: that is where paths differ."""
    return text if len(text) <= WIDEST else f"…{text[1 - WIDEST :]}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


# -- for programs ------------------------------------------------------------------------------------------------------


def as_data(runs: Sequence[PastRun]) -> dict[str, Any]:
    """The content of `--json`."""

    def changes(metrics: Mapping[str, Measured]) -> dict[str, Any]:
        return {
            name: {"before": plain(change.before), "after": plain(change.after), "gain": plain(change.gain)}
            for name, change in metrics.items()
        }

    return {
        "runs": [
            {
                "run": run.label,
                "path": str(run.path),
                "status": run.status,
                "problems": run.problems,
                "steps": run.steps,
                "total_steps": run.total_steps,
                "seconds": run.seconds,
                "tokens_per_second": run.tokens_per_second,
                "peak_memory_bytes": run.peak_memory_bytes,
                "eval": changes(run.gained),
                "retention": {dataset: changes(metrics) for dataset, metrics in run.retained.items()},
            }
            for run in runs
        ],
        "differs": differences(runs),
    }


def write_csv(runs: Sequence[PastRun]) -> None:
    """A row a run; what a run lacks is empty."""
    differs = differences(runs)
    rows: list[dict[str, Any]] = []
    for index, data in enumerate(as_data(runs)["runs"]):
        row = {key: value for key, value in data.items() if not isinstance(value, dict | list)}
        row |= {f"eval.{name}.{key}": value for name, change in data["eval"].items() for key, value in change.items()}
        for dataset, metrics in data["retention"].items():
            row |= {
                f"retention.{dataset}.{n}.{key}": value
                for n, change in metrics.items()
                for key, value in change.items()
            }
        rows.append({**row, **{key: values[index] for key, values in differs.items()}})
    writer = csv.DictWriter(sys.stdout, dict.fromkeys(key for row in rows for key in row), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


# -- the plot ---------------------------------------------------------------------------------------------------------


def plot(runs: Sequence[PastRun], metric: str | None, file: Path) -> None:
    """Draw each run that has a gain and retention rows, both finite; the others are named on stderr."""
    known = dict.fromkeys(name for run in runs for name in run.gained if run.lost(name) is not None)
    if not known:
        hint = "a run needs evaluation rows and [[data.retention]]; `fttool compare` shows what these have"
        raise UsageError("no run has both a gain and a loss to plot", hint=hint)
    if metric is not None and metric not in known:
        message = f"no run has measured '{metric}' on both kinds of rows"
        raise UsageError(message, hint=did_you_mean(metric, list(known)))

    def measured(name: str) -> dict[str, tuple[float, float]]:
        points: dict[str, tuple[float, float]] = {}
        for run in runs:
            gain, lost = run.gained[name].gain if name in run.gained else None, run.lost(name)
            if gain is not None and lost is not None:
                points[run.label] = gain, lost
        return points

    def finite(name: str) -> list[tuple[str, float, float]]:
        return [(label, *point) for label, point in measured(name).items() if all(map(math.isfinite, point))]

    chosen = metric or max(known, key=lambda name: len(finite(name)))
    points = finite(chosen)
    if not points:
        hint = f"`fttool compare` shows the numbers; these can be chosen: --metric {'|'.join(known)}"
        raise UsageError(f"no run has a finite gain and a finite loss of {chosen} to plot", hint=hint)
    for run in runs:
        if run.label not in measured(chosen):
            show(f"{run.path}: not in the plot: it lacks {chosen} before and after on both kinds", error=True)
        elif run.label not in [label for label, _, _ in points]:
            show(f"{run.path}: not in the plot: its {chosen} gained or forgotten is not finite", error=True)

    from fttool_plugins.verbs.compare.plotting import draw

    draw(points, chosen, file)
    show(f"wrote {file}", error=True)
