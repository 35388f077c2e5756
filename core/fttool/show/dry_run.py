"""`fttool run --dry-run`: everything but training, and what would happen, on one page."""

from __future__ import annotations

import tempfile
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import accumulate, takewhile
from pathlib import Path
from typing import Any

from fttool.errors import ExitCode, counted
from fttool.recipe.faults import explained
from fttool.recipe.loaded import Loaded
from fttool.rows.checks.columns import described
from fttool.rows.rows import Rows
from fttool.rundir.record import Record, resolved
from fttool.runs.advising import advise_prepared
from fttool.runs.disk_space import disk_space, refuse_full_disk
from fttool.runs.forecasting import forecast
from fttool.runs.preparing import prepare_run
from fttool.runs.stages.loop import Prepared
from fttool.show.closing import lost_in_words, tokens_in_words, windowed_in_words
from fttool.training.groups import Group
from fttool.training.proof import Proven
from fttool.visible import in_lines
from fttool.watch.aligned import aligned
from fttool.watch.screen import Screen
from fttool.watch.watch import Watch
from fttool.world import World

MIB = 2**20
POINTS = 9
"""Steps of the schedule that are shown."""
MOST = 20
"""Lines of a table that are shown: of more parameter groups the middle becomes one line, of more classes the end."""


def dry_run(loaded: Loaded, screen: Screen) -> ExitCode:
    """Load and check everything, print what would happen, and write nothing."""
    with explained(loaded), tempfile.TemporaryDirectory() as nowhere:
        taken = Record.tried(loaded)
        if taken:
            screen.note(taken)
        watch = Watch(loaded, Record(Path(nowhere)), screen, on=False)
        prepared = prepare_run(loaded, Path(nowhere), watch, World(size=loaded.recipe.sharding.world_size))
        proven = prepared.trainer.job.proof()
        proven.refuse()
        place = Record.place(loaded)
        space = disk_space(prepared, place)
        refuse_full_disk(space, place)
        plan = describe(prepared) | {"proof": proven.figures, "disk": {**asdict(space), "needed": space.needed}}
        forecasts = forecast(prepared)
        advised = advise_prepared(prepared)
        plan |= {"forecasts": forecasts.figures, "advice": advised.figures(loaded.where)}
    more = {"forecast": forecasts.lines, "advice": advised.lines(loaded.where)}
    screen.finished(plan, page(prepared, plan, proven, more))
    return ExitCode.OK


def describe(prepared: Prepared) -> dict[str, Any]:
    """What a run of this recipe would do, as data."""
    rows, recipe = prepared.rows, prepared.loaded.recipe
    total = prepared.parameters
    updates = range(prepared.length.total_steps)
    steps = sorted({round(index * len(updates) / (POINTS - 1)) for index in range(POINTS)})
    factor, memory = prepared.update.factor, prepared.memory()
    return {
        "name": prepared.loaded.name,
        "total_steps": prepared.length.total_steps,
        "steps_per_epoch": prepared.length.steps_per_epoch,
        "accumulation": recipe.accumulation,
        "precision": prepared.numerics.reason,
        "sharding": prepared.plan.reason,
        "memory": {**asdict(memory), "total": memory.total},
        "rows": _rows(prepared),
        "inference": prepared.agreement.described(),
        "tokens": _tokens(rows),
        "epoch": _epoch(prepared),
        "parameters": {
            "total": total,
            "frozen": total - sum(group.count for group in prepared.update.groups),
            "groups": [_group(group, total, updates) for group in prepared.update.groups],
        },
        "schedule": [{"step": step, "lr": recipe.optimizer.lr * factor(step)} for step in steps],
    }


def _rows(prepared: Prepared) -> dict[str, Any]:
    rows = prepared.rows
    return {
        "train": len(rows.train),
        "eval": len(rows.eval),
        "general": {name: len(dataset) for name, dataset in rows.general.items()},
        "retention": {name: len(dataset) for name, dataset in rows.retention.items()},
        "classes": {
            part: dataset.class_counts if prepared.parts.labels else {}
            for part, dataset in (("train", rows.train), ("eval", rows.eval))
        },
        "dropped": dict(rows.dropped),
        "dropped_tokens": dict(rows.dropped_tokens),
        "changed": dict(rows.changed),
        "flagged": dict(rows.flagged),
        "datasets": {source["table"]: read_of(source) for source in rows.sources},
        "notices": rows.notices,
        "truncated": rows.truncated,
        "lost": dict(rows.lost),
        "windowed": dict(rows.windowed),
        "split": rows.split,
        "remarks": rows.learned.remarks,
    }


def _tokens(rows: Rows) -> dict[str, Any]:
    return {
        "train": len(rows.train.tokens),
        "learned": rows.train.label_tokens,
        "eval": len(rows.eval.tokens),
        "general": {name: len(dataset.tokens) for name, dataset in rows.general.items()},
        "retention": {name: len(dataset.tokens) for name, dataset in rows.retention.items()},
        "longest_row": max(rows.learned.lengths),
    }


def _group(group: Group, total: int, updates: range) -> dict[str, Any]:
    """A parameter group, beside `total` parameters and the `updates` of the run."""
    trains_in = [[met.start, met.stop] for stretch in group.trains_in if (met := _within(stretch, updates))]
    return {
        "tensors": len(group.names),
        "names": named(group.names),
        "count": group.count,
        "share": group.count / total,
        "lr": group.lr,
        "weight_decay": group.weight_decay,
        "keys": dict(group.keys),
        **group.pulls._asdict(),
        "trains_in": trains_in,
    }


def _epoch(prepared: Prepared) -> list[dict[str, Any]]:
    """What the first epoch sees of each dataset that is learned from."""
    rows, data = prepared.rows, prepared.loaded.recipe.data
    datasets = [
        (kind, one.dataset) for kind, tables in (("train", data.train), ("general", data.general)) for one in tables
    ]
    ends = list(accumulate(rows.learned_sizes))
    seen_rows, seen_tokens = [0] * len(ends), [0] * len(ends)
    for row in prepared.trainer.job.batching.loader.planned():
        dataset = bisect_right(ends, row)
        seen_rows[dataset] += 1
        seen_tokens[dataset] += rows.learned.lengths[row]
    return [
        {
            "table": table,
            "dataset": name,
            "rows": seen_rows[index],
            "share_of_rows": seen_rows[index] / sum(seen_rows),
            "tokens": seen_tokens[index],
            "share_of_tokens": seen_tokens[index] / sum(seen_tokens),
            "passes": seen_rows[index] / size if size else 0.0,
        }
        for index, ((table, name), size) in enumerate(zip(datasets, rows.learned_sizes, strict=False))
    ]


def page(prepared: Prepared, plan: dict[str, Any], proven: Proven, more: Mapping[str, Sequence[str]]) -> str:
    """The same for people, with `more` that plugins say under headings of their own."""
    points = [(str(point["step"]), f"{point['lr']:.3g}") for point in plan["schedule"]]
    lines = [
        "# the recipe, with every option",
        "",
        *resolved(prepared.loaded).split("\n"),
        "# rows",
        "",
        *_row_lines(prepared, plan),
        "",
        "# parameters",
        "",
        *_parameter_lines(plan),
        "",
        "# memory, by estimate",
        "",
        *_memory(plan["memory"]),
        *_disk(plan["disk"]),
        *([f"sharding: {plan['sharding']}"] if plan["sharding"] else []),
        "",
        "# proof",
        "",
        *aligned([("what batches assume, proven on the model", "largest difference", "allowed"), *proven.lines()]),
        "",
        "# schedule",
        "",
        f"{plan['total_steps']:,} updates, {plan['steps_per_epoch']:,} per epoch, "
        f"accumulation {plan['accumulation']}; precision: {plan['precision']}",
        *aligned([("update", "lr"), *points]),
        *(line for heading, said in more.items() if said for line in ("", f"# {heading}", "", *said)),
    ]
    return in_lines(lines)


def _row_lines(prepared: Prepared, plan: dict[str, Any]) -> list[str]:
    rows, tokens = plan["rows"], plan["tokens"]
    learned = f"  {tokens['learned']:,} learned ({tokens['learned'] / tokens['train']:.0%})"
    learned = "" if prepared.parts.targets is not None else learned
    return [
        f"train   {counted(rows['train'], 'row'):>14}  {tokens['train']:>12,} tokens{learned}",
        f"eval    {counted(rows['eval'], 'row'):>14}  {tokens['eval']:>12,} tokens",
        *(
            f"{part:<9}{counted(count, 'row'):>13}  {tokens[part][name]:>12,} tokens  {name}"
            for part in ("general", "retention")
            for name, count in rows[part].items()
        ),
        *_classes(prepared),
        f"longest row {tokens['longest_row']:,} tokens; {counted(rows['truncated'], 'row')} cut at max_length"
        + lost_in_words(rows["lost"]),
        *windowed_in_words(rows["windowed"]),
        *(
            f"{fate} {count:>9,} row{' ' if count == 1 else 's'}  {reason}"
            + (tokens_in_words(rows["dropped_tokens"].get(reason, 0)) if fate == "dropped" else "")
            for fate in ("dropped", "changed", "flagged")
            for reason, count in rows[fate].items()
        ),
        *_conversations(prepared),
        *(f"note    {notice}" for notice in rows["notices"]),
        *_columns(prepared),
        *_mixture(plan["epoch"]),
    ]


def _parameter_lines(plan: dict[str, Any]) -> list[str]:
    parameters = plan["parameters"]
    frozen = ("frozen", f"{parameters['frozen']:,}", f"{parameters['frozen'] / parameters['total']:.1%}", *[""] * 4)
    return aligned(
        [
            ("parameters", "count", "share", "peak lr", "decay", "pull", "trains in"),
            *_group_rows(parameters["groups"], plan["total_steps"], plan["steps_per_epoch"]),
            frozen,
        ]
    )


def _conversations(prepared: Prepared) -> list[str]:
    """What masking has made several rows of, and whether inference asks for rows in the tokens of training."""
    rows, agreement = prepared.rows, prepared.agreement
    lines = [f"{counted(rows.split, 'conversation')} became several rows: one per learned turn"] if rows.split else []
    lines += [f"{counted(count, 'row')} {remark}" for remark, count in rows.learned.remarks.items()]
    lines += [line for finding in agreement.findings() for line in (finding.message, f"    {finding.hint}")]
    if agreement.rows and not (agreement.last or agreement.earlier):
        lines.append(f"prompted as at inference, {agreement.rows:,} of these rows have the tokens seen in training")
    return lines


def _classes(prepared: Prepared) -> list[str]:
    """The classes with their rows, or words; the most common ones of many."""
    labels, rows = prepared.parts.labels, prepared.rows
    if not labels:
        return []
    counts, measured = rows.train.class_counts, rows.eval.class_counts
    counted_in = "words" if rows.train.words else "rows"
    lines = [("class", f"train {counted_in}", f"eval {counted_in}")]
    lines += [(name, f"{counts.get(name, 0):,}", f"{measured.get(name, 0):,}") for name in labels[:MOST]]
    more = [f"… {len(labels) - MOST:,} more classes"] if len(labels) > MOST else []
    return ["", *aligned(lines), *more, ""]


def read_of(source: Mapping[str, Any]) -> dict[str, Any]:
    """What of a dataset's rows is read and what is not, of all that `lock.json` notes of it."""
    return {key: source[key] for key in ("columns", "turn_keys", "ignored", "noted", "bad_rows") if key in source}


def _columns(prepared: Prepared) -> list[str]:
    """The columns and keys of each dataset that are read, passed on, and not read."""
    tables = dict(prepared.loaded.recipe.data.datasets())
    names = {".".join(map(str, place)): f"{place[1]} {table.dataset}" for place, table in tables.items()}
    return ["", *(line for source in prepared.rows.sources for line in described(names[source["table"]], source))]


def _memory(held: Mapping[str, int]) -> list[str]:
    """What one process would hold if nothing were sharded."""
    parts = ("weights", "copies", "gradients", "optimizer", "activations", "regularizers")
    listed = ", ".join(f"{name} {held[name] / MIB:,.0f}" for name in parts if held[name])
    return [f"{held['total'] / MIB:,.0f} of {held['device'] / MIB:,.0f} MiB without sharding: {listed}"]


def _disk(room: Mapping[str, int]) -> list[str]:
    """What the run writes, beside what is free."""
    return [
        f"disk: {room['needed'] / MIB:,.0f} of {room['free'] / MIB:,.0f} MiB that are free: {room['checkpoints']} × "
        f"{room['checkpoint'] / MIB:,.0f} for checkpoints, {room['model'] / MIB:,.0f} for the model"
    ]


def named(names: Sequence[str]) -> str:
    """The parameters of a group in few words: one to three names, or as a shell pattern and their number."""
    listed = ", ".join(names)
    if len(names) == 1 or (len(names) <= 3 and len(listed) <= 60):
        return listed
    columns = zip(*(name.split(".") for name in names), strict=False)
    shared = [column[0] for column in takewhile(lambda column: len(set(column)) == 1, columns)]
    if not shared:
        return f"{names[0]} and {len(names) - 1} more"
    end = ".bias" if all(name.endswith(".bias") for name in names) else ""
    return f"{'.'.join(shared)}.*{end} ({len(names)})"


def _group_rows(groups: Sequence[dict[str, Any]], total: int, per_epoch: int) -> list[tuple[str, ...]]:
    """A line a group; where there are too many, the middle ones as one line, with the range of what they have."""
    lines = [
        (
            ", ".join([group["names"], *(f"{key} {value}" for key, value in group["keys"].items())]),
            f"{group['count']:,}",
            f"{group['share']:.1%}",
            f"{group['lr']:.3g}",
            f"{group['weight_decay']:g}",
            _pulls(group),
            _when(group["trains_in"], total, per_epoch),
        )
        for group in groups
    ]
    if len(lines) <= MOST:
        return lines
    first, last = MOST // 2, len(lines) - (MOST // 2 - 1)
    middle = groups[first:last]
    trained = [sum(stop - start for start, stop in group["trains_in"]) for group in middle]
    folded = (
        f"… {len(middle)} more groups",
        f"{sum(group['count'] for group in middle):,}",
        f"{sum(group['share'] for group in middle):.1%}",
        _span([group["lr"] for group in middle], ".3g"),
        _span([group["weight_decay"] for group in middle], "g"),
        " … ".join(dict.fromkeys(_pulls(group) for group in middle)),
        f"{_span(trained, ',')} of {total:,}",
    )
    return [*lines[:first], folded, *lines[last:]]


def _span(values: Sequence[float], form: str) -> str:
    """The lowest and the highest value, or the one that all are."""
    low, high = f"{min(values):{form}}", f"{max(values):{form}}"
    return low if low == high else f"{low} – {high}"


def _within(stretch: range, updates: range) -> range:
    """The updates of a stretch that the run has."""
    return updates[stretch.start : stretch.stop]


def _mixture(epoch: Sequence[Mapping[str, Any]]) -> list[str]:
    """What an epoch sees of each dataset, where there are several."""
    if len(epoch) == 1:
        return []
    return [
        "",
        *aligned(
            [("in the first epoch", "rows", "share", "tokens", "share", "passes")]
            + [
                (
                    met["dataset"] + (" (general)" if met["table"] == "general" else ""),
                    f"{met['rows']:,}",
                    f"{met['share_of_rows']:.1%}",
                    f"{met['tokens']:,}",
                    f"{met['share_of_tokens']:.1%}",
                    f"{met['passes']:.2f}",
                )
                for met in epoch
            ]
        ),
    ]


def _pulls(group: dict[str, Any]) -> str:
    """The strengths of all pulls at a group, or `by weight` where each weight has its own."""
    if group["importance"] or group["decoupled_importance"]:
        return "by weight"
    to_start = group["pull"] + group["decoupled_pull"]
    to_zero = group["zero_pull"] + group["decoupled_zero_pull"]
    shown = ([f"{to_start:g}"] if to_start else []) + ([f"{to_zero:g} to 0"] if to_zero else [])
    return " + ".join(shown) or "0"


def _when(stretches: list[list[int]], total: int, per_epoch: int) -> str:
    """The updates of a group in words: `all updates`, `from update 120 (epoch 2)`, `60 of 300`."""
    trained = sum(stop - start for start, stop in stretches)
    if trained == total:
        return "all updates"
    if not stretches:
        return "none: the run is too short"
    first = stretches[0][0]
    if trained == total - first:
        return f"from update {first:,} (epoch {first // per_epoch + 1})"
    return f"{trained:,} of {total:,}"
