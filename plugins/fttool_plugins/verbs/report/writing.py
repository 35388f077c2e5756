"""A report as a file, and as data for programs."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from fttool.api import UsageError
from fttool.verbs import gist
from fttool_plugins.verbs.compare import as_data as compared
from fttool_plugins.verbs.compare.past import plain
from fttool_plugins.verbs.report.browsing import MADE_BY, browsed
from fttool_plugins.verbs.report.curves import charts_of
from fttool_plugins.verbs.report.ending import next_step, sentence
from fttool_plugins.verbs.report.reading import Told
from fttool_plugins.verbs.report.series import Series

NAME = "report.html"
MARK = f'<meta name="generator" content="{MADE_BY}">'.encode()
ANOTHER = "name another file: -o FILE.html"


def page_of(runs: Sequence[Path]) -> Path:
    """Where the page is written by default."""
    return runs[0] / NAME if len(runs) == 1 else Path(NAME)


def refuse_foreign(file: Path) -> None:
    """Raise `UsageError` where the page would be written over something else, or into a folder that is not there."""
    if not file.absolute().parent.is_dir():
        raise UsageError(f"the folder '{file.parent}' does not exist", hint=f"make it, or {ANOTHER}")
    if not file.exists():
        return
    try:
        with file.open("rb") as there:
            ours = MARK in there.read(4096)
    except OSError as fault:
        raise UsageError(f"'{file}' cannot be written over: {gist(fault)}", hint=ANOTHER) from fault
    if not ours:
        raise UsageError(f"'{file}' exists and is not a report; it is never overwritten", hint=ANOTHER)


def write(file: Path, runs: Sequence[Told]) -> None:
    """Write the page, whole or not at all: a browser may be reading the one before."""
    text, aside = browsed(runs), file.with_name(f".{secrets.token_hex(8)}.partial")
    try:
        aside.write_text(text, encoding="utf-8")
        aside.replace(file.resolve())
    except OSError as fault:
        raise UsageError(f"cannot write '{file}': {fault.strerror or fault}", hint=ANOTHER) from fault
    finally:
        with suppress(OSError):
            aside.unlink(missing_ok=True)


def as_data(runs: Sequence[Told], page: Path | None) -> dict[str, Any]:
    """What `--json` prints: what `fttool compare --json` has, how each run ended, and its curves in figures."""
    data = compared([told.past for told in runs])
    for entry, told in zip(data["runs"], runs, strict=True):
        entry |= {
            "status": told.state,
            "ended": sentence(told),
            "next": next_step(told),
            "problems": list(told.problems),
            "steps": told.last_step,
            "total_steps": told.total_steps,
            "checkpoints": told.steps_of("checkpoint_saved"),
            "curves": {name: [_figures(one) for one in chart] for name, chart in charts_of(told).items()},
            "dropped": [{"by": by, "reason": why, "rows": rows} for (by, why), rows in told.gone.counts.most_common()],
        }
    return {"page": None if page is None else str(page), **data}


def _figures(series: Series) -> dict[str, Any]:
    finite = series.finite()
    picks = {"lowest": min, "highest": max} if finite else {}
    extremes = {name: pick(finite, key=lambda point: point[1]) for name, pick in picks.items()}
    return {
        "name": series.name,
        "measured_on": series.kind,
        "points": len(series.values),
        "not_finite": len(series.values) - len(finite),
        "first": plain(series.values[0]),
        "last": plain(series.values[-1]),
        **{name: {"step": step, "value": value} for name, (step, value) in extremes.items()},
    }
