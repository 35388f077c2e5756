"""Measure any model on rows of any kind: every metric that fits its task.

Each file is measured by itself, with the tokens, batches and scores of a run: the numbers are those that a run has of
the same rows. Of a run the recipe says how; without files its own rows are measured, those of evaluation and retention.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fttool.api import ExitCode, UsageError, show, visible_json
from fttool.verbs import (
    Evaluation,
    Loaded,
    Measured,
    add_overrides,
    aligned,
    evaluate,
    fitting_format,
    load_recipe,
    load_run,
    measuring,
    metrics_for,
    model_classes,
    model_head,
    recipe_of,
    verb_parser,
    with_overrides,
)

EXAMPLES = """\
examples:
  fttool evaluate runs/quickstart                          its own evaluation and retention rows
  fttool evaluate runs/quickstart chats.jsonl old.jsonl    other rows, each file by itself
  fttool evaluate builtin:tiny-chat chats.jsonl            any model: what was it like before?
  fttool evaluate runs/quickstart chats.jsonl --generate   exact match and the like: the model answers 100 prompts
  fttool evaluate runs/quickstart chats.jsonl --set 'evaluation.metrics=["perplexity"]'
  fttool evaluate tiny chats.jsonl --set model.chat_template=chatml
  fttool evaluate runs/quickstart chats.jsonl --device cpu    while the GPU trains
  fttool evaluate runs/quickstart chats.jsonl --json --out measured.json

MODEL is a run's directory, a model's folder or GGUF file, a source (builtin:…, package:…), or a hub id (owner/name).
Rows are read in the format of the run's or recipe's rows that fits, else in the first that does; --set
data.train.0.format=… says which. Settings are the run's, the recipe's of --recipe, or the usual ones; --set changes
them: masking, model.chat_template, batching.max_length, evaluation.micro_batch, evaluation.generate.rows. Nothing is
filtered.

next: fttool compare runs/*
"""

NONE = "–"
"""What stands for a number that there is not."""
TEXT = "CausalLM"
TASKS = {
    TEXT: {"name": "sft"},
    "SequenceClassification": {"name": "classification"},
    "TokenClassification": {"name": "token-classification"},
}
"""By what a model is for, see `model_head`."""
LEVELS: Mapping[str, Any] = {"sft": "token", "classification": "row", "token-classification": "word"}


def main(words: Sequence[str]) -> int:
    """Print what was measured."""
    parser = verb_parser("evaluate", __doc__, EXAMPLES)
    parser.add_argument("model", type=Path, metavar="MODEL", help="a run, a model's folder, a source or a hub id")
    parser.add_argument("rows", type=Path, nargs="*", metavar="ROWS", help="files of rows, or folders of text files")
    parser.add_argument(
        "--recipe", type=Path, metavar="FILE", help="settings of this recipe, for a model without a run"
    )
    add_overrides(parser, "change one setting, e.g. --set masking=all")
    parser.add_argument("--generate", action="store_true", help="metrics that look at the model's answers too: slower")
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1 or mps; default: a GPU where there is one")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write that object into a file, too")
    parser.add_argument("-q", "--quiet", action="store_true", help="show the result only")
    options = parser.parse_args(words)
    _refuse_output(options.out)
    settings = _settings(options)
    chosen = any(override.replace(" ", "").startswith("evaluation.metrics=") for override in options.overrides)
    metrics = settings.recipe.evaluation.metrics if chosen else metrics_for(settings, generating=options.generate)
    if not metrics:
        raise UsageError("evaluation.metrics names no metric", hint="leave it out for all that fit")
    classes = () if settings.recipe.task.learns not in ("row", "word") else _classes(options.model)
    evaluation = evaluate(
        measuring(settings, options.rows, metrics),
        classes,
        own=not options.rows,
        quiet=options.quiet or options.json,
        device=options.device,
    )
    data = as_data(str(options.model), evaluation)
    if options.out:
        options.out.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if options.json:
        print(visible_json(json.dumps(data, indent=2, ensure_ascii=False)))
    else:
        show(*page(evaluation, shutil.get_terminal_size((100, 24)).columns))
    return ExitCode.OK


def _refuse_output(file: Path | None) -> None:
    """Before minutes are spent on what cannot be written."""
    if file is not None and not file.absolute().parent.is_dir():
        raise UsageError(f"the folder '{file.parent}' does not exist", hint="make it, or name another file: --out FILE")


# -- how it is measured ------------------------------------------------------------------------------------------------


def _settings(options: argparse.Namespace) -> Loaded:
    """A recipe with the model in it that is to be measured."""
    is_run = (options.model / "recipe.resolved.toml").is_file()
    model = str((options.model / "model" if is_run else options.model).absolute())
    if not Path(model).exists():
        _refuse_nothing(options.model, is_run=is_run)
        model = str(options.model)
    if options.recipe is not None:
        return with_overrides(load_recipe(options), {"model.source": model})
    if is_run:
        run = load_run(options.model, options.overrides)
        return _with_saved_template(with_overrides(run, {"model.source": model}), options.overrides)
    if not options.rows:
        hint = "name files of rows: fttool evaluate MODEL rows.jsonl"
        raise UsageError(f"'{options.model}' is not a run, which would have rows of its own", hint=hint)
    return recipe_of(_proposed(options, model), options.overrides)


def _refuse_nothing(model: Path, *, is_run: bool) -> None:
    """Raise `UsageError` for what cannot be a model: an unfinished run, or a single word that names nothing here."""
    if is_run:
        raise UsageError(f"the run '{model}' has no final model", hint="fttool run … --resume ends it")
    if "/" not in str(model) and ":" not in str(model):
        hint = f"name a run's directory or a model's folder; a model on the hub: pretrained:{model}"
        raise UsageError(f"there is no '{model}' here", hint=hint)


def _with_saved_template(run: Loaded, overrides: Sequence[str]) -> Loaded:
    """The run's model has its chat template with it; the file that it came from may be gone."""
    if any(override.strip().startswith("model.chat_template") for override in overrides):
        return run
    model = run.recipe.model.model_copy(update={"chat_template": None})
    return replace(run, recipe=run.recipe.model_copy(update={"model": model}))


def _proposed(options: argparse.Namespace, model: str) -> dict[str, Any]:
    """A recipe for a model and rows of which nothing else is known."""
    head = model_head(Path(model)) if ":" in model or Path(model).exists() else TEXT  # a hub id says nothing
    task: dict[str, Any] = dict(TASKS.get(head, TASKS[TEXT]))
    if task["name"] != "sft":
        config = json.loads((Path(model) / "config.json").read_text(encoding="utf-8"))
        task |= _of_a_classifier(config, task["name"], _classes(options.model))
    level = "number" if task.get("kind") == "regression" else LEVELS[task["name"]]
    table: dict[str, Any] = {"path": str(options.rows[0].absolute())}
    proposed: dict[str, Any] = {"recipe": 1, "model": {"source": model}, "task": task, "data": {"train": [table]}}
    if options.generate:  # what bounds the answers may then be set
        proposed |= {"data": {"train": [table], "eval": [table]}, "evaluation": {"metrics": ["loss", "exact-match"]}}
    if (detected := fitting_format(options.rows[0], level)) is not None:
        table["format"], example = detected
        if level == "token" and not example.messages:
            proposed["masking"] = "completion" if example.prompt else "all"
    return proposed


def _of_a_classifier(config: Mapping[str, Any], task: str, classes: Sequence[str]) -> dict[str, Any]:
    """What a model's configuration says of its task."""
    if task == "classification" and (config.get("problem_type") == "regression" or len(classes) == 1):
        return {"kind": "regression"}
    several = config.get("problem_type") == "multi_label_classification"
    return {"labels": list(classes), **({"multi_label": True} if several else {})}


def _classes(model: Path) -> tuple[str, ...]:
    """The classes of a model in a folder; of another one the rows, or task.labels, must tell."""
    return model_classes(model) if model.is_dir() else ()


# -- what is shown -----------------------------------------------------------------------------------------------------


def as_data(model: str, evaluation: Evaluation) -> dict[str, Any]:
    """The content of `--json`; what is not a number is the text `nan`, `inf` or `-inf`, as in `metrics.jsonl`."""

    def plain(value: float) -> float | str:
        return value if math.isfinite(value) else str(value)

    return {
        "model": model,
        "datasets": {
            measured.dataset: {
                "rows": measured.rows,
                "metrics": {name: plain(value) for name, value in measured.values.items()},
                "tables": measured.tables,
                "remarks": measured.remarks,
            }
            for measured in evaluation.measured
        },
        "dropped": evaluation.dropped,
        "truncated": evaluation.truncated,
    }


def page(evaluation: Evaluation, width: int) -> list[str]:
    """A row a metric and a column a dataset, as many side by side as fit; then what metrics have to say."""
    names = list(dict.fromkeys(name for measured in evaluation.measured for name in measured.values))
    lines: list[str] = []
    for part in _side_by_side(evaluation.measured, names, width):
        lines += [*([""] if lines else []), *part]
    for measured in evaluation.measured:
        lines += [f"{measured.dataset}: {name}: {remark}" for name, remark in measured.remarks.items()]
        for title, rows in measured.tables.items():
            shown = [[f"{cell:.4f}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
            lines += ["", f"{measured.dataset}: {title}", *(f"  {line}" for line in aligned(shown))]
    left_out = [f"{count:,} {reason}" for reason, count in evaluation.dropped.items() if count]
    lines += ["", f"rows left out: {', '.join(left_out)}"] if left_out else []
    return lines + ([f"rows cut at max_length: {evaluation.truncated:,}"] if evaluation.truncated else [])


def _side_by_side(measured: Sequence[Measured], names: Sequence[str], width: int) -> Iterator[list[str]]:
    """Tables of as many datasets as `width` characters hold, at least one each."""
    rest = list(measured)
    while rest:
        count = next((n for n in range(len(rest), 1, -1) if max(map(len, _table(rest[:n], names))) <= width), 1)
        yield _table(rest[:count], names)
        rest = rest[count:]


def _table(measured: Sequence[Measured], names: Sequence[str]) -> list[str]:
    heading = ["", *(column.dataset for column in measured)]
    counts = ["rows", *(f"{column.rows:,}" for column in measured)]
    values = [[name, *(_number(column.values.get(name)) for column in measured)] for name in names]
    return aligned([heading, counts, *values])


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:.4f}"
