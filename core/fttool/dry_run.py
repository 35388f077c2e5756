"""`fttool run --dry-run`: everything but training, and what would happen, on one page."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fttool.errors import ExitCode
from fttool.faults import explained
from fttool.observers import Observers
from fttool.preparing import Prepared, prepare_run
from fttool.reading import Loaded
from fttool.record import Record, resolved
from fttool.screen import Screen

POINTS = 9
"""Steps of the schedule that are shown."""


def dry_run(loaded: Loaded, screen: Screen) -> ExitCode:
    """Load and check everything, print what would happen, and write nothing."""
    with explained(loaded), tempfile.TemporaryDirectory() as nowhere:
        prepared = prepare_run(loaded, screen, Record(Path(nowhere)), Observers(loaded, lambda *_, **__: None))
        found = describe(prepared)
    screen.finished(found, page(prepared, found))
    return ExitCode.OK


def describe(prepared: Prepared) -> dict[str, Any]:
    """What a run of this recipe would do, as data."""
    rows, recipe = prepared.rows, prepared.loaded.recipe
    total = sum(parameter.numel() for parameter in prepared.model.parameters())
    steps = sorted({round(index * prepared.length.total_steps / (POINTS - 1)) for index in range(POINTS)})
    factor = prepared.update.factor
    return {
        "name": prepared.loaded.name,
        "total_steps": prepared.length.total_steps,
        "steps_per_epoch": prepared.length.steps_per_epoch,
        "accumulation": recipe.accumulation,
        "precision": prepared.numerics.reason,
        "rows": {
            "train": len(rows.train),
            "eval": len(rows.eval),
            "dropped": dict(rows.dropped),
            "truncated": rows.truncated,
        },
        "tokens": {
            "train": len(rows.train.tokens),
            "learned": rows.train.label_tokens,
            "eval": len(rows.eval.tokens),
            "longest_row": max(rows.train.lengths),
        },
        "parameters": {
            "total": total,
            "frozen": total - sum(group.count for group in prepared.update.groups),
            "groups": [
                {
                    "tensors": len(group.names),
                    "first": group.names[0],
                    "count": group.count,
                    "share": group.count / total,
                    "lr": group.lr,
                    "weight_decay": group.weight_decay,
                    **group.pulls._asdict(),
                    "trains_in": [[stretch.start, stretch.stop] for stretch in group.trains_in],
                }
                for group in prepared.update.groups
            ],
        },
        "schedule": [{"step": step, "lr": recipe.optimizer.lr * factor(step)} for step in steps],
    }


def page(prepared: Prepared, found: dict[str, Any]) -> str:
    """The same for people."""
    rows, tokens, parameters = found["rows"], found["tokens"], found["parameters"]
    share = tokens["learned"] / tokens["train"]
    lines = [
        "# the recipe, with every option",
        "",
        resolved(prepared.loaded),
        "# rows",
        "",
        f"train   {rows['train']:>9,} rows  {tokens['train']:>12,} tokens  {tokens['learned']:,} learned ({share:.0%})",
        f"eval    {rows['eval']:>9,} rows  {tokens['eval']:>12,} tokens",
        f"longest row {tokens['longest_row']:,} tokens; {rows['truncated']:,} rows cut at max_length",
        *(f"dropped {count:>9,} rows  {reason}" for reason, count in rows["dropped"].items()),
        "",
        "# parameters",
        "",
        *_table(
            [("parameters", "count", "share", "peak lr", "decay", "pull", "trains in")]
            + [
                (
                    group["first"] + (f" and {group['tensors'] - 1} more" if group["tensors"] > 1 else ""),
                    f"{group['count']:,}",
                    f"{group['share']:.1%}",
                    f"{group['lr']:.3g}",
                    f"{group['weight_decay']:g}",
                    _pulls(group),
                    _when(group["trains_in"], found["total_steps"]),
                )
                for group in parameters["groups"]
            ]
            + [
                (
                    "never trained",
                    f"{parameters['frozen']:,}",
                    f"{parameters['frozen'] / parameters['total']:.1%}",
                    *[""] * 4,
                )
            ]
        ),
        "",
        "# schedule",
        "",
        f"{found['total_steps']:,} updates, {found['steps_per_epoch']:,} per epoch, "
        f"accumulation {found['accumulation']}; precision: {found['precision']}",
        *_table([("update", "lr")] + [(str(point["step"]), f"{point['lr']:.3g}") for point in found["schedule"]]),
    ]
    return "\n".join(lines)


def _pulls(group: dict[str, Any]) -> str:
    """The strengths of all pulls at a group, or `by weight` where each weight has its own."""
    if group["importance"] or group["decoupled_importance"]:
        return "by weight"
    strengths = {
        f"{group['pull'] + group['decoupled_pull']:g}",
        f"{group['zero_pull'] + group['decoupled_zero_pull']:g} to 0",
    }
    return " + ".join(sorted(one for one in strengths if not one.startswith("0"))) or "0"


def _when(stretches: list[list[int]], total: int) -> str:
    """The updates of a group in words: `all`, `from 120`, `60 of 300`."""
    met = [range(total)[start:stop] for start, stop in stretches]
    trained = sum(map(len, met))
    if trained == total:
        return "all"
    last = met[-1] if met else range(0)
    if len(met) == 1 and last.stop == total:
        return f"from {last.start}"
    return f"{trained:,} of {total:,}"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Aligned columns, the first to the left and the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
