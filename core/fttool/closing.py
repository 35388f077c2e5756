"""How a run ended: the summary for programs, the closing screen for people, and the model card."""

from __future__ import annotations

import shlex
import shutil
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fttool import evaluation
from fttool.record import Record, peak_memory_bytes

if TYPE_CHECKING:
    from fttool.preparing import Prepared


def summarize(prepared: Prepared, status: str) -> dict[str, Any]:
    """The content of `summary.json`."""
    job, state, rows = prepared.trainer.job, prepared.trainer.state, prepared.rows
    progress = job.progress
    after = progress.latest if status == "finished" else {}
    return {
        "status": status,
        "steps": state.global_step,
        "total_steps": prepared.length.total_steps,
        "epochs": round(state.global_step / prepared.length.steps_per_epoch, 4),
        "train_rows": len(rows.train),
        "eval_rows": len(rows.eval),
        "dropped_rows": dict(rows.dropped),
        "truncated_rows": rows.truncated,
        "train_tokens": progress.train_tokens,
        "label_tokens": progress.label_tokens,
        "tokens_per_second": progress.train_tokens / progress.seconds if progress.seconds else 0.0,
        "seconds": progress.seconds,
        "peak_memory_bytes": peak_memory_bytes(),
        "precision": prepared.numerics.reason,
        "parameters": sum(parameter.numel() for parameter in prepared.model.parameters()),
        "trained_parameters": sum(group.count for group in prepared.update.groups),
        "eval": {"before": progress.before, "after": after},
        "best": {"step": progress.best_step, "value": progress.best} if progress.best is not None else None,
        "stopped_early": progress.stopped_early,
        "sharding": {
            "name": prepared.loaded.recipe.sharding.id(),
            "ranks": list(prepared.plan.prove(prepared.trainer)) if prepared.trainer.optimizer else [],
        },
        "samples": _samples(prepared) if status == "finished" else [],
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
        for example, old, new in zip(asked, before, job.answers(), strict=True)
    ]


def text(prepared: Prepared, record: Record, summary: dict[str, Any]) -> str:
    """The closing screen."""
    lines = [
        f"\n{prepared.loaded.name}: {summary['status']} after {summary['steps']} of {summary['total_steps']} updates"
    ]
    before, after = summary["eval"]["before"], summary["eval"]["after"]
    for name in after:
        lines.append(f"  {name:<16} {before.get(name, float('nan')):>9.4f} → {after[name]:.4f}")
    lines.append(
        f"  {summary['train_rows']:,} rows, {summary['train_tokens']:,} tokens seen, {summary['label_tokens']:,} labels"
        f" learned, {summary['tokens_per_second']:,.0f} tokens/s"
    )
    if summary["dropped_rows"]:
        reasons = ", ".join(f"{count} {reason}" for reason, count in summary["dropped_rows"].items())
        lines.append(f"  dropped rows: {reasons}")
    if summary["truncated_rows"]:
        lines.append(f"  {summary['truncated_rows']} rows were cut at max_length; their end is not learned")
    width = min(shutil.get_terminal_size().columns, 110)
    for sample in summary["samples"]:
        lines += ["", *_side_by_side(sample, width)]
    if summary["status"] == "finished":
        lines += [
            "",
            f"  model  {_shown(record.model)}",
            f'  try    fttool generate {shlex.quote(_shown(record.path))} "your question"',
        ]
    else:
        overrides = [word for override in prepared.loaded.overrides for word in ("--set", override)]
        lines += ["", f"  go on  {shlex.join(['fttool', 'run', str(prepared.loaded.path), *overrides, '--resume'])}"]
    return "\n".join(lines)


def _side_by_side(sample: dict[str, str], width: int) -> list[str]:
    """One sample: the question, and the answers before and after in two columns."""
    column = (width - 5) // 2
    left = textwrap.wrap(sample["before"], column, max_lines=5, placeholder=" …") or ["(nothing)"]
    right = textwrap.wrap(sample["after"], column, max_lines=5, placeholder=" …") or ["(nothing)"]
    height = max(len(left), len(right))
    left += [""] * (height - len(left))
    right += [""] * (height - len(right))
    question = textwrap.shorten(sample["question"], width - 4, placeholder=" …")
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
    chosen = "\n".join(f"- {'.'.join(map(str, place))}: `{one.id()}`" for place, one in recipe.strategies())
    return (
        f"---\nlibrary_name: transformers\ntags: [fttool]\n---\n\n# {prepared.loaded.name}\n\n"
        f"Fine-tuned with fttool for {prepared.trainer.state.global_step} updates; `recipe.resolved.toml` and "
        f"`lock.json` beside this file say how to make it again.\n\n## Base model\n\n{origin}\n\n"
        f"## Evaluation\n\n| metric | before | after |\n|---|---|---|\n{metrics}\n\n## Strategies\n\n{chosen}\n"
    )
