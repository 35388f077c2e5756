"""What core itself forbids in a recipe of the right type: bent values, tables that contradict each other."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import entry_points
from typing import Any

from fttool.contracts.advice import ADVICE
from fttool.contracts.batches import Batching
from fttool.contracts.recipe import SLICE, GenerateTable, Recipe, RowsTable
from fttool.errors import Problem, did_you_mean
from fttool.plain import is_array, is_table
from fttool.recipe import toml
from fttool.recipe.overrides import Key


def bent_values(given: Any, read: Any, key: Key = ()) -> Iterable[Problem]:
    """Values of another type that pydantic has bent to fit: `"5"` or `true` for a number, `1` for `true`."""
    if is_table(given) and is_table(read):
        for name in given.keys() & read.keys():
            yield from bent_values(given[name], read[name], (*key, name))
    elif is_array(given) and is_array(read):
        for index, pair in enumerate(zip(given, read, strict=True)):
            yield from bent_values(*pair, (*key, index))
    elif isinstance(read, bool) != isinstance(given, bool) or (
        isinstance(read, int | float) and isinstance(given, str)
    ):
        kind = "true or false" if isinstance(read, bool) else "a number"
        message = f"{'.'.join(map(str, key))} must be {kind}, got {toml.format_value(given)}"
        yield Problem(message, hint=f"write {toml.format_value(read)}", key=key)


def contradictions(recipe: Recipe) -> Iterable[Problem]:
    """What core itself knows cannot go together."""
    yield from _of_lengths(recipe)
    yield from _of_evaluation(recipe)
    yield from _of_another_level(recipe)
    if recipe.batching.needs_same_rows and not recipe.mixing.same_rows:
        message = (
            f"batching '{recipe.batching.id()}' needs the same rows in every epoch, and mixing '{recipe.mixing.id()}' "
            "draws different rows in each"
        )
        yield Problem(message, hint=f'set batching.name = "{Batching.place.default}"', key=("batching",))
    yield from _of_datasets(recipe)
    yield from _of_advice(recipe)
    for index, name in enumerate(recipe.plugins.observe):
        if name in recipe.plugins.disable:
            message, hint = f"plugin '{name}' is both observed and disabled", "take it out of one of the two lists"
            yield Problem(message, hint=hint, key=("plugins", "observe", index))


def _of_advice(recipe: Recipe) -> Iterable[Problem]:
    """Rules that are ignored, and that no installed package has."""
    rules = [point.name for point in entry_points(group=ADVICE)] if recipe.advice.ignore else []
    for index, name in enumerate(recipe.advice.ignore):
        if name not in rules:
            message, hint = f"there is no advice '{name}' to ignore", did_you_mean(name, rules)
            yield Problem(message, hint=hint, key=("advice", "ignore", index))


def _of_lengths(recipe: Recipe) -> Iterable[Problem]:
    """How long the run is, and how many sequences make an update."""
    run, wanted = recipe.run, recipe.global_batch
    if run.epochs is not None and run.max_steps is not None:
        yield Problem("both run.epochs and run.max_steps are set", hint="keep one", key=("run", "max_steps"))
    if run.micro_batch == "auto" and run.global_batch is None:
        hint = "say how many sequences make an update, e.g. run.global_batch = 16"
        yield Problem('micro_batch = "auto" needs run.global_batch', hint=hint, key=("run", "micro_batch"))
    per_pass = recipe.micro_batch * recipe.sharding.world_size
    if wanted % per_pass:
        message = f"global_batch {wanted} is not a multiple of micro_batch × processes = {per_pass}"
        hint = f"e.g. {max(per_pass, wanted // per_pass * per_pass)}"
        yield Problem(message, hint=hint, key=("run", "global_batch"))


def _of_evaluation(recipe: Recipe) -> Iterable[Problem]:
    """What evaluations are wanted for, without rows to measure on, or without the metric."""
    evaluation, names = recipe.evaluation, [metric.id() for metric in recipe.evaluation.metrics]
    wanted = [key for key in ("every", "early_stopping", "best") if getattr(evaluation, key) is not None]
    measured = bool(recipe.data.retention)  # `every` is of use with these alone; to choose by is for evaluation rows
    unmet = [key for key in wanted if not (recipe.has_eval or (measured and key == "every"))]
    if unmet:
        message = f"evaluation.{unmet[0]} is set, but there are no evaluation rows"
        hint = "set data.eval_share = 0.05, or add [[data.eval]]"
        yield Problem(message, hint=hint, key=("evaluation", unmet[0]))
    if evaluation.best is not None and evaluation.best not in names:
        message = f"evaluation.best '{evaluation.best}' is not a metric of this run"
        yield Problem(message, hint=did_you_mean(evaluation.best, names), key=("evaluation", "best"))
    generating = [index for index, metric in enumerate(evaluation.metrics) if metric.generates]
    if generating and not recipe.has_eval:
        message = f"{names[generating[0]]} looks at answers to evaluation rows, and there are none"
        hint = "set data.eval_share = 0.05, or add [[data.eval]]"
        yield Problem(message, hint=hint, key=("evaluation", "metrics", generating[0]))
    given = evaluation.generate
    if not generating and (given.rows, given.max_tokens) != (GenerateTable().rows, GenerateTable().max_tokens):
        message = "evaluation.generate bounds the answers that metrics look at, and none of the metrics does"
        hint = 'add one that does, e.g. "exact-match", or leave it out (evaluation.sample_tokens bounds the samples)'
        yield Problem(message, hint=hint, key=("evaluation", "generate"))
    if evaluation.early_stopping is not None and evaluation.every is None:
        message, key = "early_stopping needs evaluations during the run", ("evaluation", "early_stopping")
        yield Problem(message, hint="set evaluation.every", key=key)


def _of_datasets(recipe: Recipe) -> Iterable[Problem]:
    """Datasets without rows, of one name, or with keys that do nothing."""
    names: set[tuple[str, str]] = set()
    for place, rows in recipe.data.datasets():
        part = place[1]
        if (rows.path is None) == (rows.hub is None):
            yield Problem(f"data.{part} needs one of path and hub", hint='path = "rows.jsonl"', key=place)
        elif (part, rows.dataset) in names:
            message = f"two datasets of data.{part} are called '{rows.dataset}'"
            yield Problem(message, hint='give one of them another name: name = "…"', key=place)
        names.add((part, rows.dataset))
        yield from _idle_keys(rows, place)


def _idle_keys(rows: RowsTable, place: Key) -> Iterable[Problem]:
    """Keys of a dataset that act on nothing beside its other keys."""
    on_a_file, on_the_hub = rows.path is not None, rows.path is None
    idle_keys = {
        "split": (
            on_a_file and rows.split is not None and not SLICE.fullmatch(rows.split),
            f'files have no split \'{rows.split}\', only parts, such as "[:5%]" or "[100:200]"',
        ),
        "revision": (on_a_file and rows.revision is not None, "a file has no revisions"),
        "reader": (on_the_hub and rows.reader.id() != rows.reader.place.default, "it is for files and folders"),
        "max_bad_rows": (
            rows.on_bad_row == "refuse" and rows.max_bad_rows is not None,
            'none may be bad unless on_bad_row = "drop"',
        ),
    }
    for key, (idle, why) in idle_keys.items():
        if idle:
            yield Problem(f"{key} does nothing here: {why}", hint="take it out", key=(*place, key))


def _of_another_level(recipe: Recipe) -> Iterable[Problem]:
    """Strategies for learning tokens in a recipe whose task learns the classes of rows, and the like."""
    learns = {
        "token": "tokens",
        "row": "a class for each row",
        "word": "a class for each word",
        "number": "a number for each row",
    }
    task = recipe.task
    for place, strategy in recipe.strategies():
        if strategy is not task and not strategy.serves(task.learns):
            fitting = task.filled(task.model_dump()).get(strategy.place.table, strategy.place.default)
            levels = (strategy.level,) if isinstance(strategy.level, str) else strategy.level or ()
            served = " or ".join(learns[level] for level in levels)
            message = f"{strategy.family} '{strategy.id()}' is for a task that learns {served}, not for '{task.id()}'"
            if task.learns is not None and isinstance(task.level, tuple):
                message += f", which learns {learns[task.learns]} here"
            option = strategy.place.table.rpartition(".")[-1]
            yield Problem(message, hint=f"with this task: {option} = {toml.format_value(fitting)}", key=place)
