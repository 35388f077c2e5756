"""A model measured on datasets of its own choice, as a run measures it: the same tokens, batches, scores and metrics.

Nothing here imports torch before a model is asked for, so a verb's help is quick.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fttool.contracts.recipe import DataTable, RowsTable, TrackingTable
from fttool.contracts.rows import Example, MaskingContext
from fttool.contracts.sharding import Numerics
from fttool.contracts.strategy import Level
from fttool.contracts.task import Metric, TaskContext, TaskParts
from fttool.errors import ModelError, Problem, UsageError
from fttool.listing import installed
from fttool.plugins import Plugins
from fttool.recipe.faults import explained
from fttool.recipe.loaded import Loaded
from fttool.recipe.reading import load
from fttool.rundir.record import Record
from fttool.rundir.saved import model_folder
from fttool.verbs.finished import asking
from fttool.watch.screen import choose
from fttool.watch.watch import Watch
from fttool.world import ALONE

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from fttool.rows.rows import Rows
    from fttool.runs.stages.setup import Setup

LOOKED_AT = 20
"""First rows of a file on which formats are tried."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was measured of a model on one dataset."""

    dataset: str
    """Its file as it was named, the name of a retention dataset, or `evaluation rows` for a run's own."""
    rows: int
    """Those that were measured on."""
    values: Mapping[str, float]
    """By metric."""
    tables: Mapping[str, Sequence[Sequence[Any]]] = field(default_factory=dict[str, Any])
    """What the metrics have to say beside their numbers, by title."""
    remarks: Mapping[str, str] = field(default_factory=dict[str, str])
    """What is to be said of the numbers, by metric."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What was measured, and what became of rows that were not measured on."""

    measured: Sequence[Measured]
    """One for each dataset."""
    dropped: Mapping[str, int]
    """Rows of the named files that were left out, by reason."""
    truncated: int
    """Those that were cut at `batching.max_length`."""


def recipe_of(data: Mapping[str, Any], overrides: Sequence[str] = ()) -> Loaded:
    """A recipe that is not a file; its relative paths start in the current folder."""
    return load(Path("recipe.toml"), overrides, data=data)


def model_classes(model: Path) -> tuple[str, ...]:
    """The names of the classes that the model of a run or model folder tells apart, in the order of its outputs."""
    config = json.loads((model_folder(model) / "config.json").read_text(encoding="utf-8"))
    names = {int(number): str(name) for number, name in config.get("id2label", {}).items()}
    return tuple(names[number] for number in sorted(names))


def fitting_format(file: Path, level: Level) -> tuple[str, Example] | None:
    """The first installed format for tasks of this level that takes the first rows, and what it makes of the first."""
    from fttool.rows.format_detection import formats_that_read

    return next(formats_that_read(Plugins.discover(), first_rows(file), level), None)


def metrics_for(loaded: Loaded, *, generating: bool) -> list[Metric]:
    """The recipe's metrics, then all built-in others that need no option and go with its task.

    Those that look at answers, which take long, only where `generating`.
    """
    metrics = list(loaded.recipe.evaluation.metrics)
    for kind in loaded.plugins.family("metric"):
        if not issubclass(kind, Metric) or kind.id() in [metric.id() for metric in metrics]:
            continue
        needs_more = any(option.is_required() for option in kind.model_fields.values())
        if kind.serves(loaded.recipe.task.learns) and (generating or not kind.generates) and not needs_more:
            metrics.append(kind())  # pyright: ignore[reportAbstractUsage]
    return metrics


def measuring(loaded: Loaded, files: Iterable[Path], metrics: Sequence[Metric]) -> Loaded:
    """The recipe with these files as its rows, for `evaluate`; with none, its own evaluation and retention rows stay.

    Each file is read in the format of the recipe's first dataset that has one which takes it, else in the first
    installed format that does.
    """
    recipe = loaded.recipe
    evaluation = {"every": None, "early_stopping": None, "best": None, "metrics": tuple(metrics)}
    changes: dict[str, Any] = {
        "evaluation": recipe.evaluation.model_copy(update=evaluation),
        "tracking": TrackingTable(),
    }
    tables = [_table(loaded, file) for file in files]
    if tables:
        changes |= {"data": DataTable.model_construct(train=tuple(tables)), "filters": ()}
    return replace(loaded, recipe=recipe.model_copy(update=changes))


def evaluate(
    loaded: Loaded, classes: Sequence[str] = (), *, own: bool, quiet: bool = False, device: str | None = None
) -> Evaluation:
    """Measure the recipe's model on each of its training datasets, or with `own` on its evaluation and retention rows.

    `classes` are those of the model, in the order of its outputs; without them, those of the rows. `device` is where:
    `cpu`, `cuda`, `cuda:1`, `mps`; by default a GPU where there is one.

    Raises:
        UsageError: for a device that this machine does not have.
        ModelError: beside what a run refuses, for a model that lacks weights which a run would draw at random.
    """
    from fttool.machine import named_device
    from fttool.rows import chat
    from fttool.rows.filtering import build_source
    from fttool.runs.stages.rows import READING
    from fttool.runs.stages.setup import set_up

    on = named_device(device) if device else None
    watch = Watch(loaded, Record(Path()), choose(quiet=quiet, as_json=False), on=False)
    with explained(loaded):
        setup = set_up(loaded, Path(), watch, ALONE, on)
        loaded = setup.loaded
        watch.stage(READING)
        source = build_source(loaded)
        tokenizer = source.tokenizer()
        chat.apply_template(tokenizer, loaded.recipe.model.chat_template, loaded.folder)
        rows, examples = _own_rows(loaded, tokenizer) if own else _given_rows(loaded, tokenizer)
        parts = _task_parts(loaded, rows, classes)
        model = _model(setup, source, tokenizer, rows, parts)
        measured = list(_measured(setup, rows, examples, tokenizer, parts, model))
    for notice in rows.notices:
        watch.note(notice)
    dropped, truncated = ({}, 0) if own else (dict(rows.dropped), rows.truncated)
    return Evaluation(measured=measured, dropped=dropped, truncated=truncated)


def first_rows(file: Path) -> list[Mapping[str, Any]]:
    """The first `LOOKED_AT` raw rows of a file or folder."""
    from fttool.rows.files.source import read_rows

    return [row for _, row in islice(read_rows(file), LOOKED_AT)]


def _table(loaded: Loaded, file: Path) -> RowsTable:
    """The dataset of a file, as the recipe's first dataset is that has a format for it."""
    from fttool.rows.format_detection import takes

    tables = [table for _, table in loaded.recipe.data.datasets()]
    level, rows = loaded.recipe.task.learns, first_rows(file)
    like = next((candidate for candidate in tables if all(takes(candidate.format, row, level) for row in rows)), None)
    changes: dict[str, Any] = {"name": str(file), "path": str(file.absolute()), "hub": None, "limit": None}
    if like is None and level is not None and (detected := fitting_format(file, level)) is not None:
        kinds, _ = installed(loaded.plugins, "format")
        kind = next(candidate for candidate in kinds if candidate.id() == detected[0])
        changes["format"] = kind()  # pyright: ignore[reportAbstractUsage]
    return (like or tables[0]).model_copy(update=changes)


Examples = Mapping[str, Sequence[Example]]
"""By dataset: rows before masking, for metrics that look at answers."""
EVALUATION = "evaluation rows"
"""What the recipe's own are called."""


def _own_rows(loaded: Loaded, tokenizer: PreTrainedTokenizerBase) -> tuple[Rows, Examples]:
    """The rows of the recipe, as a run prepares them; those that it evaluates on stand beside its retention rows."""
    from fttool.runs.row_cache import cached_rows

    rows = cached_rows(loaded, tokenizer)
    if not rows.measurable:
        message = "the recipe has neither evaluation nor retention rows"
        raise UsageError(message, hint="name files of rows: fttool evaluate RUN rows.jsonl")
    if len(rows.eval):
        rows.retention = {EVALUATION: rows.eval, **rows.retention}
    return rows, {EVALUATION: rows.eval_examples}


def _given_rows(loaded: Loaded, tokenizer: PreTrainedTokenizerBase) -> tuple[Rows, Examples]:
    """All rows of the recipe's training datasets: none is filtered or set aside."""
    from fttool.rows.checks.abilities import proving
    from fttool.rows.datasets import read_dataset
    from fttool.rows.encoding import encode_rows
    from fttool.rows.rows import Rows
    from fttool.rows.spooled import Spool
    from fttool.rows.tokens import TokenRows
    from fttool.yielded import built

    recipe, rows = loaded.recipe, Rows()
    context = MaskingContext(tokenizer=tokenizer, max_length=recipe.batching.max_length, **loaded.common)
    encode = proving(built(recipe.masking, context), tokenizer)
    examples: dict[str, Spool[Example]] = {}
    for place, table in recipe.data.datasets():
        reading = read_dataset(loaded, table, place, tokenizer)
        into = rows.retention.setdefault(table.dataset, TokenRows())
        kept = examples.setdefault(table.dataset, Spool[Example]())
        encode_rows(reading, reading.examples, encode, recipe, into, rows, kept=kept)
        rows.dropped.update(reading.left_out)
        rows.dropped.update(reading.bad.counts())
        rows.notices += reading.notices()
        if not len(into):
            reasons = ", ".join(f"{count} {reason}" for reason, count in rows.dropped.most_common())
            raise UsageError(f"no row of '{table.dataset}' is left to measure on (dropped: {reasons})")
    return rows, examples


def _task_parts(loaded: Loaded, rows: Rows, classes: Sequence[str]) -> TaskParts:
    """What the task yields for a model of these classes; raises `DataError` for rows of others."""
    from collections import Counter

    from fttool.rows.checks.trained_classes import refuse_classes
    from fttool.yielded import built

    recipe, counts = loaded.recipe, dict.fromkeys(classes, 1)
    if not classes and recipe.task.learns in ("row", "word"):
        counts = Counter(chain.from_iterable(part.class_counts for part in rows.retention.values()))
    context = TaskContext(label_counts=counts, rows=len(counts), masking=recipe.masking, **loaded.common)
    parts = built(recipe.task, context)
    if parts.targets is not None:
        refuse_classes(rows, parts.targets)
    return parts


def _model(setup: Setup, source: Any, tokenizer: PreTrainedTokenizerBase, rows: Rows, parts: TaskParts) -> Any:
    """The model on its device, in the number formats of a run."""
    from fttool.rows import chat
    from fttool.rows.tokens import JoinedRows
    from fttool.runs.stages.model import load_model, load_options

    setup.watch.stage("loading the model")
    options = load_options(setup.loaded, parts, setup.numerics)
    model: Any = load_model(source, options, tokenizer, rows, setup.loaded.recipe.run.seed)
    if options.newly_initialised:
        message = (
            f"the model's files lack {sorted(options.newly_initialised)[0]}: it would be measured with random weights"
        )
        raise ModelError(Problem(message, hint="name a model that was trained for this task", key=("model", "source")))
    if parts.fit is not None:
        parts.fit(model, tokenizer)
    chat.stop_at(model, chat.stop_ids(tokenizer, JoinedRows(rows.retention.values())))
    model.to(setup.device)
    _compute_in(model, setup.numerics)
    return model


def _compute_in(model: Any, numerics: Numerics) -> None:
    """Let the model's forward pass be in the format that a run's engine has it in."""
    if numerics.autocast == "no":
        return
    import torch
    from accelerate.utils.operations import convert_outputs_to_fp32

    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}[numerics.autocast]
    model.forward = convert_outputs_to_fp32(torch.autocast(model.device.type, dtype)(model.forward))


def _measured(
    setup: Setup, rows: Rows, examples: Examples, tokenizer: PreTrainedTokenizerBase, parts: TaskParts, model: Any
) -> Iterator[Measured]:
    """One dataset after the other; metrics of answers look at those that the rows of `examples` ask for."""
    from fttool.runs.stages.batches import Grouping
    from fttool.training.evaluation import answered, asked_examples, measures, remarks, summed, tables
    from fttool.yielded import check_measure

    recipe, chosen = setup.loaded.recipe, measures(setup.loaded, parts.labels)
    ask, grouping = asking(recipe, model, tokenizer), Grouping.of(setup.loaded, tokenizer, parts, model)
    for dataset, part in rows.retention.items():
        batches = grouping.each_once(part, ALONE)(track=partial(setup.watch.track, what=f"measuring on {dataset}"))
        sums = summed(model, batches, parts.score, chosen, setup.device)
        if asked := asked_examples(recipe, examples.get(dataset, ())):
            sums |= answered(chosen, asked, ask, setup.device)
        values: dict[str, float] = {}
        for metric in recipe.evaluation.metrics:
            if metric.id() in sums:
                values[metric.id()] = chosen[metric.id()].value(sums[metric.id()])
                check_measure(metric, values[metric.id()])
        yield Measured(
            dataset=dataset,
            rows=len(part),
            values=values,
            tables=tables(chosen, sums),
            remarks=remarks(chosen, sums),
        )
