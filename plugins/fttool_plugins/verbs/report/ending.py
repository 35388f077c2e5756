"""How a run ended, in one sentence, and what to type next."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from fttool_plugins.verbs.compare.past import Measured, table_at
from fttool_plugins.verbs.report.reading import Told

OPENINGS = {
    "finished": "Finished",
    "interrupted": "Interrupted",
    "diverged": "Diverged",
    "failed": "Failed",
    "running": "Still running",
    "killed": "Killed, or its machine went down,",
    "unknown": "How it ended is not known, as summary.json is damaged",
}


def sentence(told: Told) -> str:
    """How it ended."""
    parts = (OPENINGS.get(told.state, told.state), _updates(told), _took(told), _early(told), _diverged(told))
    return "".join([*parts, *_gained(told), "."])


def next_step(told: Told) -> str:
    """A command that goes on from here."""
    run = shlex.quote(str(told.past.path))
    if told.state == "running":
        return f"fttool report {run}"
    if told.state != "finished":
        return f"fttool run {shlex.quote(str(told.past.path / 'recipe.resolved.toml'))} --resume"
    return f'fttool generate {run} "question"' if told.summary.get("samples") else f"fttool evaluate {run} rows.jsonl"


def change(measured: Measured) -> str:
    """`better by 0.1234`, in the metric's own unit; empty where it is not known."""
    gain = measured.gain
    if gain is None or gain != gain:
        return ""
    return "the same" if gain == 0 else f"{'better' if gain > 0 else 'worse'} by {abs(gain):.4f}"


def duration(seconds: float) -> str:
    """`2 h 05 min`, `1 min 25 s` or `25 s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def _updates(told: Told) -> str:
    last, total = told.last_step, told.total_steps
    if last is None:
        return ", and no update was logged" if told.state != "running" else ", and no update is logged yet"
    of = f" of {total:,}" if total is not None else ""
    return f", at update {last:,}{of}" if told.state == "running" else f" after {last:,}{of} updates"


def _took(told: Told) -> str:
    seconds = told.past.seconds if told.summary else None
    return f" in {duration(seconds)}" if seconds is not None else ""


def _early(told: Told) -> str:
    best = table_at(told.summary, "best").get("step")
    since = f" since update {best:,}" if isinstance(best, int) else ""
    return f"; stopped early, as its evaluations did not get better{since}" if told.summary.get("stopped_early") else ""


def _diverged(told: Told) -> str:
    said = [line.get("what") or line.get("text") for line in told.events if line["event"] == "diverged"]
    return f": {said[-1]}" if told.state == "diverged" and said and said[-1] else ""


def _gained(told: Told) -> Iterator[str]:
    """What became of the first metric, and of what the model knew."""
    if told.state != "finished":
        return
    gained = told.past.gained
    for name, one in list(gained.items())[:1]:
        if one.before is not None and one.after is not None and change(one):
            yield f": {name} on the evaluation rows went from {one.before:.4f} to {one.after:.4f}, {change(one)}"
    knew = told.past.retained.items()
    gains = {dataset: next(iter(metrics.values())).gain for dataset, metrics in knew if metrics}
    worse = [dataset for dataset, gain in gains.items() if gain is not None and gain < 0]
    if worse:
        more = f" and {len(worse) - 3} more" if len(worse) > 3 else ""
        yield f"; it became worse on what it knew ({', '.join(worse[:3])}{more})"
    elif gains and None not in gains.values():
        yield "; it became no worse on what it knew"
