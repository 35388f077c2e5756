"""How a run ended, for programs: `summary.json`, and the last line of `events.jsonl`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fttool.errors import DiskError
from fttool.events import Ended, OutputUnread
from fttool.rows.prompts import expected_answer, question
from fttool.rundir.record import Record, peak_memory_bytes
from fttool.runs.stages.loop import Prepared
from fttool.streams import lost_readers
from fttool.watch.watch import Watch


def summarize(prepared: Prepared, status: str) -> dict[str, Any]:
    """The content of `summary.json`."""
    job, state = prepared.trainer.job, prepared.trainer.state
    progress = job.progress
    finished = status == "finished"
    after, retained = (progress.latest, progress.retention_latest) if finished else ({}, {})
    metrics = prepared.loaded.recipe.evaluation.metrics
    return {
        "status": status,
        "steps": state.global_step,
        "total_steps": prepared.length.total_steps,
        "epochs": round(state.global_step / prepared.length.steps_per_epoch, 4),
        **_rows(prepared),
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
        "retention": _retention(progress.retention_before, retained),
        "tables": progress.tables if finished else {},
        "answering": dict(progress.answering),
        "metric_remarks": progress.remarks if finished else {},
        "better_is": {metric.id(): "higher" if metric.greater_is_better else "lower" for metric in metrics},
        "best": {"step": progress.best_step, "value": progress.best} if progress.best is not None else None,
        "stopped_early": progress.stopped_early,
        "sharding": {
            "name": prepared.loaded.recipe.sharding.id(),
            "reason": prepared.plan.reason,
            "ranks": list(job.held),
        },
        "samples": _samples(prepared) if finished else [],
        "files": dict(job.output.files) if finished else {},
    }


def _rows(prepared: Prepared) -> dict[str, Any]:
    """Rows by what became of them."""
    rows = prepared.rows
    return {
        "train_rows": len(rows.train),
        "eval_rows": len(rows.eval),
        "dropped_rows": dict(rows.dropped),
        "dropped_tokens": dict(rows.dropped_tokens),
        "changed_rows": dict(rows.changed),
        "flagged_rows": dict(rows.flagged),
        "truncated_rows": rows.truncated,
        "lost": dict(rows.lost),
        "windowed_rows": dict(rows.windowed),
        "split_rows": rows.split,
        "row_remarks": rows.learned.remarks,
        "inference": prepared.agreement.described(),
        "template_variables": rows.template_variables,
    }


def _retention(
    before: Mapping[str, Mapping[str, float]], after: Mapping[str, Mapping[str, float]]
) -> dict[str, Mapping[str, Mapping[str, float]]]:
    """The metrics on each retention dataset, and by how much they rose."""
    delta = {
        dataset: {name: value - before[dataset][name] for name, value in numbers.items()}
        for dataset, numbers in after.items()
        if dataset in before
    }
    return {"before": before, "after": after, "delta": delta}


def record_end(record: Record, summary: Mapping[str, Any], watch: Watch) -> DiskError | None:
    """Write how the run ended, into a directory that was moved meanwhile too; where that cannot be, the reason."""
    moved = record.held.moved_to() if record.held is not None else None
    place = record if moved is None else Record(moved)
    try:
        place.summary(summary)
        for stream, since in lost_readers().items():
            place.event(OutputUnread(stream=stream, since=since))
        place.event(Ended(status=summary["status"], step=summary["steps"]), flushed=True)
    except DiskError as fault:
        watch.note(f"how the run ended is recorded nowhere: {fault.problems[0].message}")
        return fault
    return None


def _datasets(prepared: Prepared) -> dict[str, dict[str, dict[str, int]]]:
    """Rows and tokens of each dataset, and how many of them were seen in training."""
    rows, progress = prepared.rows, prepared.trainer.job.progress
    trained = [dataset.dataset for dataset in prepared.loaded.recipe.data.train]
    seen = iter(zip(progress.seen_rows, progress.seen_tokens, strict=True))

    def entry(size: int, tokens: int) -> dict[str, int]:
        seen_rows, seen_tokens = next(seen, (0, 0))  # general rows after the training rows, or none
        return {"rows": size, "tokens": tokens, "seen_rows": seen_rows, "seen_tokens": seen_tokens}

    return {
        "train": {
            name: entry(size, tokens)
            for name, size, tokens in zip(trained, rows.train_sizes, rows.train_tokens, strict=True)
        },
        "general": {name: entry(len(part), len(part.tokens)) for name, part in rows.general.items()},
        "retention": {name: {"rows": len(part), "tokens": len(part.tokens)} for name, part in rows.retention.items()},
    }


def _samples(prepared: Prepared) -> list[dict[str, str]]:
    """Prompts, expected answers, and the model's answers before and after."""
    job = prepared.trainer.job
    before, expected = job.progress.answers_before, prepared.parts.expected or expected_answer
    asked = [example for example in prepared.rows.eval_examples if example.messages or example.prompt][: len(before)]
    return [
        {
            "question": question(example),
            "expected": expected(example),
            "before": old,
            "after": new,
        }
        for example, old, new in zip(asked, before, job.progress.answers_after, strict=True)
    ]
