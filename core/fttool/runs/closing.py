"""How a run ended: the summary for programs, the closing screen for people, and the model card."""

from __future__ import annotations

import math
import shlex
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fttool.errors import DiskError, counted
from fttool.runs.aligned import aligned
from fttool.runs.record import Record, peak_memory_bytes
from fttool.streams import lost_readers
from fttool.training import evaluation
from fttool.visible import in_lines

if TYPE_CHECKING:
    from fttool.runs.screen import Screen
    from fttool.runs.stages.loop import Prepared

MOST_LINES, WIDEST = 22, 100
"""Lines and columns of a metric's table that the closing screen shows."""


def summarize(prepared: Prepared, status: str) -> dict[str, Any]:
    """The content of `summary.json`."""
    job, state, rows = prepared.trainer.job, prepared.trainer.state, prepared.rows
    progress = job.progress
    finished = status == "finished"
    after, retained = (progress.latest, progress.retention_latest) if finished else ({}, {})
    metrics = prepared.loaded.recipe.evaluation.metrics
    return {
        "status": status,
        "steps": state.global_step,
        "total_steps": prepared.length.total_steps,
        "epochs": round(state.global_step / prepared.length.steps_per_epoch, 4),
        "train_rows": len(rows.train),
        "eval_rows": len(rows.eval),
        "dropped_rows": dict(rows.dropped),
        "encodings": rows.other_encodings,
        "truncated_rows": rows.truncated,
        "split_rows": rows.split,
        "row_remarks": rows.learned.remarks,
        "inference": prepared.agreement.described(),
        "template_variables": rows.template_variables,
        "train_tokens": progress.train_tokens,
        "label_tokens": progress.label_tokens,
        "skipped_updates": progress.skipped,
        "tokens_per_second": progress.train_tokens / progress.seconds if progress.seconds else 0.0,
        "seconds": progress.seconds,
        "peak_memory_bytes": peak_memory_bytes(),
        "fits": progress.fits,
        "precision": prepared.numerics.reason,
        "proof": progress.proof,
        "parameters": prepared.parameters,
        "trained_parameters": sum(
            group.count for group in prepared.update.groups if group.trains_before(prepared.length.total_steps)
        ),
        "datasets": _datasets(prepared),
        "eval": {"before": progress.before, "after": after},
        "retention": {
            "before": progress.retention_before,
            "after": retained,
            "delta": {
                dataset: {name: value - progress.retention_before[dataset][name] for name, value in numbers.items()}
                for dataset, numbers in retained.items()
                if dataset in progress.retention_before
            },
        },
        "tables": progress.tables if finished else {},
        "better_is": {metric.id(): "higher" if metric.greater_is_better else "lower" for metric in metrics},
        "best": {"step": progress.best_step, "value": progress.best} if progress.best is not None else None,
        "stopped_early": progress.stopped_early,
        "sharding": {
            "name": prepared.loaded.recipe.sharding.id(),
            "reason": prepared.plan.reason,
            "ranks": list(job.held),
        },
        "samples": _samples(prepared) if finished else [],
        "files": dict(job.files) if finished else {},
    }


def record_end(record: Record, summary: Mapping[str, Any], screen: Screen) -> DiskError | None:
    """Write how the run ended, into a directory that was moved meanwhile too; where that cannot be, the reason."""
    moved = record.held.moved_to() if record.held is not None else None
    place = record if moved is None else Record(moved)
    try:
        place.summary(summary)
        for stream, since in lost_readers().items():
            place.event("output_unread", stream=stream, since=since)
        place.event("ended", flushed=True, status=summary["status"], step=summary["steps"])
    except DiskError as fault:
        screen.note(f"how the run ended is recorded nowhere: {fault.problems[0].message}")
        return fault
    return None


def _datasets(prepared: Prepared) -> dict[str, dict[str, dict[str, int]]]:
    """Rows and tokens of each dataset, and how many of them were met in training."""
    rows, progress = prepared.rows, prepared.trainer.job.progress
    trained = [dataset.dataset for dataset in prepared.loaded.recipe.data.train]
    met = iter(zip(progress.met_rows, progress.met_tokens, strict=True))

    def entry(size: int, tokens: int) -> dict[str, int]:
        met_rows, met_tokens = next(met, (0, 0))  # general rows behind the training rows, or none
        return {"rows": size, "tokens": tokens, "met_rows": met_rows, "met_tokens": met_tokens}

    return {
        "train": {
            name: entry(size, tokens)
            for name, size, tokens in zip(trained, rows.train_sizes, rows.train_tokens, strict=True)
        },
        "general": {name: entry(len(some), len(some.tokens)) for name, some in rows.general.items()},
        "retention": {name: {"rows": len(some), "tokens": len(some.tokens)} for name, some in rows.retention.items()},
    }


def _samples(prepared: Prepared) -> list[dict[str, str]]:
    """Prompts, expected answers, and the model's answers before and after."""
    job = prepared.trainer.job
    before = job.progress.answers_before
    asked = [example for example in prepared.rows.eval_examples if example.messages or example.prompt][: len(before)]
    return [
        {
            "question": evaluation.question(example),
            "expected": evaluation.expected_answer(example),
            "before": old,
            "after": new,
        }
        for example, old, new in zip(asked, before, job.progress.answers_after, strict=True)
    ]


def text(prepared: Prepared, record: Record, summary: dict[str, Any]) -> str:
    """The closing screen."""
    lines = [
        "",
        f"{prepared.loaded.name}: {summary['status']} after {summary['steps']} of {summary['total_steps']} updates",
    ]
    if summary["stopped_early"]:
        lines.append(f"  {_why_stopped(prepared, summary['best'])}")
    lines += _only_worse(prepared, summary)
    lines += gained_and_lost(summary)
    lines += _tables(summary["tables"])
    lines.append(
        f"  {counted(summary['train_rows'], 'row')}, {summary['train_tokens']:,} tokens seen, "
        f"{summary['label_tokens']:,} labels learned, {summary['tokens_per_second']:,.0f} tokens/s"
    )
    if summary["skipped_updates"]:
        lines.append(f"  loss scaling skipped {summary['skipped_updates']:,} of {summary['steps']:,} updates")
    if summary["dropped_rows"]:
        reasons = ", ".join(f"{count} {reason}" for reason, count in summary["dropped_rows"].items())
        lines.append(f"  dropped rows: {reasons}")
    if summary["truncated_rows"]:
        lost = "read" if prepared.parts.labels else "learned"
        lines.append(f"  cut at max_length: {counted(summary['truncated_rows'], 'row')}; the end is not {lost}")
    lines += [f"  {counted(count, 'row')} {remark}" for remark, count in summary["row_remarks"].items()]
    lines += [f"  read as {encoding}: {counted(count, 'file')}" for encoding, count in summary["encodings"].items()]
    width = min(shutil.get_terminal_size().columns, 110)
    for sample in summary["samples"]:
        lines += ["", *_side_by_side(sample, width, told=bool(prepared.parts.labels))]
    if not prepared.trainer.job.saves:
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
    kept = "the model is the one before the first update" if settings.best else "the model is the last update's"
    return [
        f"  worse, or no better: no evaluation had a better {name} than before training ({best['value']:.4f}); {kept}"
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
            heading = f"{verdict} on the retention rows '{dataset}', which stand for what it knew:"
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
    rows = [f"  {one:<{column}} │ {two}" for one, two in zip(left, right, strict=True)]
    return [f"  > {question}", f"  {'before':<{column}} │ after", *rows]


def _shown(path: Path) -> str:
    """A path as one would type it here."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def card(prepared: Prepared) -> str:
    """The model card: what it was made from, how, and how well."""
    recipe, progress = prepared.loaded.recipe, prepared.trainer.job.progress
    origin = "\n".join(f"- {key}: `{value}`" for key, value in prepared.source.origin.items())
    metrics = "\n".join(
        f"| {name} | {progress.before.get(name, float('nan')):.4f} | {value:.4f} |"
        for name, value in progress.latest.items()
    )
    forgotten = "".join(
        f"| {dataset} | {name} | {progress.retention_before.get(dataset, {}).get(name, math.nan):.4f} | {value:.4f} |\n"
        for dataset, numbers in progress.retention_latest.items()
        for name, value in numbers.items()
    )
    retention = (
        "## Retention\n\nOn rows that stand for what the model knew, and that it did not learn from:\n\n"
        f"| rows | metric | before | after |\n|---|---|---|---|\n{forgotten}\n"
    )
    chosen = "\n".join(f"- {'.'.join(map(str, place))}: `{one.id()}`" for place, one in recipe.strategies())
    return (
        f"---\nlibrary_name: transformers\ntags: [fttool]\n---\n\n# {prepared.loaded.name}\n\n"
        f"Fine-tuned with fttool for {prepared.trainer.state.global_step} updates; `recipe.resolved.toml` and "
        f"`lock.json` beside this file say how to make it again.\n\n## Base model\n\n{origin}\n\n"
        f"## Evaluation\n\n| metric | before | after |\n|---|---|---|\n{metrics}\n\n"
        f"{retention if forgotten else ''}## Strategies\n\n{chosen}\n"
    )
