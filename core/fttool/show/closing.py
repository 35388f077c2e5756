"""How a run ended, for people: the closing screen."""

from __future__ import annotations

import math
import shlex
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fttool.errors import counted
from fttool.visible import in_lines
from fttool.watch.aligned import aligned

if TYPE_CHECKING:
    from fttool.runs.run import Ended
    from fttool.runs.stages.loop import Prepared

MOST_LINES, WIDEST = 22, 100
"""Lines and columns of a metric's table that the closing screen shows."""


def text(ended: Ended) -> str:
    """The closing screen."""
    prepared, record, summary = ended.prepared, ended.record, ended.summary
    lines = [
        "",
        f"{prepared.loaded.name}: {summary['status']} after {summary['steps']} of {summary['total_steps']} updates",
    ]
    if summary["stopped_early"]:
        lines.append(f"  {_why_stopped(prepared, summary['best'])}")
    lines += _only_worse(prepared, summary)
    lines += gained_and_lost(summary)
    lines += [f"  {name}: {remark}" for name, remark in summary["metric_remarks"].items()]
    lines += _tables(summary["tables"])
    lines.append(
        f"  {counted(summary['train_rows'], 'row')}, {summary['train_tokens']:,} tokens seen, "
        f"{summary['label_tokens']:,} labels learned, {summary['tokens_per_second']:,.0f} tokens/s"
    )
    lines += _answering(summary["answering"])
    if summary["skipped_updates"]:
        lines.append(f"  loss scaling skipped {summary['skipped_updates']:,} of {summary['steps']:,} updates")
    lines += _fates(summary, "read" if prepared.parts.targets is not None else "learned")
    lines += [f"  {counted(count, 'row')} {remark}" for remark, count in summary["row_remarks"].items()]
    width = min(shutil.get_terminal_size().columns, 110)
    for sample in summary["samples"]:
        lines += ["", *_side_by_side(sample, width, told=prepared.parts.targets is not None)]
    if not prepared.trainer.job.output.saves:
        lines += ["", f"  saved  no model; the log is in {_shown(record.path)}"]
    elif summary["status"] == "finished":
        lines += [
            "",
            f"  model  {_shown(record.model)}",
            f"  try    fttool {prepared.parts.try_it.format(run=shlex.quote(_shown(record.path)))}",
        ]
    else:
        overrides = [word for override in prepared.loaded.overrides for word in ("--set", override)]
        lines += ["", f"  go on  {shlex.join(['fttool', 'run', str(prepared.loaded.path), *overrides, '--resume'])}"]
    return in_lines(lines)


def _fates(summary: Mapping[str, Any], unlearned: str) -> list[str]:
    """What became of rows that were not simply learned: dropped, changed, flagged, cut, made several."""
    lines: list[str] = []
    for fate in ("dropped", "changed", "flagged"):
        counts: Mapping[str, int] = summary[f"{fate}_rows"]
        tokens: Mapping[str, int] = summary["dropped_tokens"] if fate == "dropped" else {}
        reasons = [f"{count} {reason}{tokens_in_words(tokens.get(reason, 0))}" for reason, count in counts.items()]
        lines += [f"  {fate} rows: {', '.join(reasons)}"] if reasons else []
    if summary["truncated_rows"]:
        cut = f"{counted(summary['truncated_rows'], 'row')}{lost_in_words(summary['lost'])}"
        lines.append(f"  cut at max_length: {cut}; what is cut off is not {unlearned}")
    return lines + [f"  {line}" for line in windowed_in_words(summary["windowed_rows"])]


def lost_in_words(lost: Mapping[str, int]) -> str:
    """What truncation has taken: ` (40 tokens and 12 words lost)`."""
    listed = " and ".join(counted(count, kind.removesuffix("s")) for kind, count in lost.items())
    return f" ({listed} lost)" if listed else ""


def tokens_in_words(tokens: int) -> str:
    """How many tokens dropped rows had: ` (1,200 tokens)`; nothing where they were dropped before anyone counted."""
    return f" ({counted(tokens, 'token')})" if tokens else ""


def windowed_in_words(windowed: Mapping[str, int]) -> list[str]:
    """How many rows became several because of their length, in a line; none where there is no such row."""
    if not windowed:
        return []
    return [f"longer than max_length: {counted(windowed['rows'], 'row')} split into {windowed['parts']:,}"]


def _answering(asked: Mapping[str, Any]) -> list[str]:
    """What the answers took that metrics have looked at."""
    if not asked:
        return []
    took = f"{asked['answers']:,} answers, {asked['tokens']:,} tokens in {asked['seconds']:.1f} s"
    why = f", one by one: {asked['one_by_one']}" if asked["one_by_one"] else ""
    return [f"  generated for metrics: {took}{why}"]


def _why_stopped(prepared: Prepared, best: Mapping[str, Any] | None) -> str:
    """Words for what made the run end before its last update."""
    settings = prepared.loaded.recipe.evaluation
    name = settings.best or settings.metrics[0].id()
    since = "at all" if not best else f"since update {best['step']}" if best["step"] else "than before the first update"
    count = settings.early_stopping
    return f"stopped early: {name} was no better {since}, in {count} evaluation{'s' if count != 1 else ''} in a row"


def _only_worse(prepared: Prepared, summary: Mapping[str, Any]) -> list[str]:
    """Words for a run of whose evaluations none was better than that before its first update, and what comes of it."""
    best, settings = summary["best"], prepared.loaded.recipe.evaluation
    if summary["status"] != "finished" or best is None or best["step"]:
        return []
    name = settings.best or settings.metrics[0].id()
    which = "the model is the one before the first update" if settings.best else "the model is the last update's"
    return [
        f"  worse, or no better: no evaluation had a better {name} than before training ({best['value']:.4f}); {which}"
    ]


def gained_and_lost(summary: Mapping[str, Any]) -> list[str]:
    """The metrics before and after; where retention was measured, what was gained and what was lost in words."""
    evaluated, retained, better_is = summary["eval"], summary["retention"], summary["better_is"]
    tables: list[tuple[str, Mapping[str, float], Mapping[str, float]]] = []
    if evaluated["after"]:
        verdict = {1: "gained", -1: "nothing gained", 0: "unchanged"}[_direction(evaluated, better_is)]
        tables.append((f"{verdict} on the evaluation rows:", evaluated["before"], evaluated["after"]))
    for dataset, after in retained["after"].items():
        if after:
            before = retained["before"].get(dataset, {})
            direction = _direction({"before": before, "after": after}, better_is)
            verdict = {1: "nothing lost", -1: "lost", 0: "unchanged"}[direction]
            heading = f"{verdict} on the retention rows '{dataset}', which represent what it knew:"
            tables.append((heading, before, after))
    lines: list[str] = []
    for heading, before, after in tables:
        if retained["after"]:
            lines.append(f"  {heading}")
        for name, value in after.items():
            was = before.get(name, math.nan)
            change = f"  {_change(was, value, better_is[name])}" if retained["after"] else ""
            lines.append(f"  {name:<16} {was:>9.4f} → {value:.4f}{change}".rstrip())
    return lines


def _direction(measured: Mapping[str, Mapping[str, float]], better_is: Mapping[str, str]) -> int:
    """1 where the first metric got better, −1 where it got worse, 0 where it stayed or is not a number."""
    name, after = next(iter(measured["after"].items()))
    rise = after - measured["before"].get(name, math.nan)
    return (rise > 0) - (rise < 0) if better_is[name] == "higher" else (rise < 0) - (rise > 0)


def _change(before: float, after: float, better: str) -> str:
    """`better by 0.1234`, in the metric's own unit."""
    rise = after - before
    if rise == 0 or not math.isfinite(rise):
        return "the same" if rise == 0 else ""
    return f"{'better' if (rise > 0) == (better == 'higher') else 'worse'} by {abs(rise):.4f}"


def _tables(tables: Mapping[str, Sequence[Sequence[Any]]]) -> list[str]:
    """What the metrics have to say beside their numbers; of what no screen holds, where it is."""
    lines: list[str] = []
    for title, rows in tables.items():
        shown = aligned([[f"{cell:.4f}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows])
        if len(shown) > MOST_LINES or max(map(len, shown)) > WIDEST:
            shown = [f"{len(rows) - 1} rows, in summary.json"]
        lines += ["", f"  {title}", *(f"    {line}" for line in shown)]
    return [*lines, ""] if lines else []


def _side_by_side(sample: dict[str, str], width: int, *, told: bool) -> list[str]:
    """One sample: the question, the right answer where it is to be `told`, and the answers before and after in two
    columns.
    """
    column = (width - 5) // 2
    left = textwrap.wrap(sample["before"], column, max_lines=5, placeholder=" …") or ["(nothing)"]
    right = textwrap.wrap(sample["after"], column, max_lines=5, placeholder=" …") or ["(nothing)"]
    height = max(len(left), len(right))
    left += [""] * (height - len(left))
    right += [""] * (height - len(right))
    right_one = f"  [{sample['expected']}]" if told else ""
    question = textwrap.shorten(sample["question"], max(20, width - 4 - len(right_one)), placeholder=" …") + right_one
    rows = [f"  {line_before:<{column}} │ {line_after}" for line_before, line_after in zip(left, right, strict=True)]
    return [f"  > {question}", f"  {'before':<{column}} │ after", *rows]


def _shown(path: Path) -> str:
    """A path as one would type it here."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
