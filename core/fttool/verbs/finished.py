"""A finished run read again: its recipe, the weights before and after, and what is measured of a model on its rows.

Nothing here imports torch before a model is asked for, so a verb's help is quick.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fttool.contracts.model import LoadOptions
from fttool.contracts.recipe import Recipe
from fttool.contracts.rows import Example
from fttool.contracts.task import TaskContext
from fttool.errors import ModelError, UsageError, gist
from fttool.machine import quiet_libraries
from fttool.recipe.faults import explained
from fttool.recipe.loaded import Loaded
from fttool.recipe.reading import load
from fttool.recipe.toml import format_value
from fttool.rundir.record import Record
from fttool.watch.screen import choose
from fttool.world import ALONE

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


AS_WRITTEN = "this verb needs it as the run wrote it; `fttool verify` says what else is damaged"


def load_run(folder: Path, overrides: Sequence[str] = ()) -> Loaded:
    """The recipe that a run directory was made with, every option written out."""
    file = folder / "recipe.resolved.toml"
    if not file.is_file():
        raise UsageError(f"'{folder}' is not a run directory: it has no {file.name}", hint="name one: runs/NAME")
    try:
        Record(folder).resolved_recipe()
    except (OSError, ValueError) as fault:
        raise UsageError(f"'{file}' is damaged: {gist(fault)}", hint=AS_WRITTEN) from fault
    return load(file, overrides)


def initial_weights(run: Loaded) -> Mapping[str, Tensor]:
    """The weights that a run started from, by parameter name, in float32, read again from the model's source.

    Without those that the source does not give, such as a new head. Raises `ModelError` where its files have changed.
    """
    from fttool.rows.filtering import build_source
    from fttool.runs.resume import weight_files
    from fttool.training.regularizing import start

    quiet_libraries(network=run.needs_network)
    with explained(run):
        locked = lock_of(run)
        source = build_source(run)
        weights = start(source, _options(run, "float32"))
    if weight_files(locked["model"]) != weight_files(source.origin):
        message = f"the model that the run '{run.path.parent}' started from has changed since"
        raise ModelError(message, hint="lock.json there has the hashes of its files, or its commit on the hub")
    return weights


def lock_of(run: Loaded) -> dict[str, Any]:
    """What `lock.json` of a run says; `UsageError` where it is missing or damaged."""
    record = Record(run.path.parent)
    try:
        return record.lock()
    except (OSError, ValueError) as fault:
        message = f"'{record.path / 'lock.json'}' is missing or damaged: {gist(fault)}"
        raise UsageError(message, hint=AS_WRITTEN) from fault


def final_model(run: Loaded) -> PreTrainedModel:
    """The final model of a run, in the format in which it was saved."""
    from fttool.rows.filtering import build_source

    folder = Record(run.path.parent).model.absolute()
    if not (folder / "config.json").is_file():
        raise UsageError(f"the run '{run.path.parent}' has no final model", hint="fttool run … --resume ends it")
    quiet_libraries(network=run.needs_network)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    saved = load(run.path, [*run.overrides, f"model.source={format_value(str(folder))}"])
    with explained(saved):
        return build_source(saved).model(_options(run, config.get("dtype") or "float32"))


def measure(run: Loaded, model: PreTrainedModel, *, quiet: bool = False) -> dict[str, float]:
    """The metrics of a model on the evaluation and retention rows of a run, named as in `metrics.jsonl`."""
    from fttool.machine import device
    from fttool.runs.stages.batches import make_batches
    from fttool.runs.stages.rows import READING, load_rows, task_parts
    from fttool.training.evaluation import answered, asked_examples, evaluate, measures

    quiet_libraries(network=run.needs_network)
    with explained(run):
        choose(quiet=quiet, as_json=False).stage(READING)
        _, tokenizer, rows = load_rows(run)
        parts = task_parts(run, rows)
        batches = make_batches(run, rows, tokenizer, parts, model, ALONE)
        chosen = measures(run, parts.labels)
        moved: Any = model
        moved.to(device())
        named = {"eval": batches.eval_batches} if len(rows.eval) else {}
        named |= {f"retention_{dataset}": batches_of for dataset, batches_of in batches.retention_batches.items()}
        measured = {
            place: evaluate(model, batches_of(), parts.score, chosen, model.device)
            for place, batches_of in named.items()
        }
        if examples := asked_examples(run.recipe, rows.eval_examples):
            sums = answered(chosen, examples, asking(run.recipe, model, tokenizer), model.device)
            measured["eval"] |= {name: chosen[name].value(total) for name, total in sums.items()}
        return {f"{place}_{name}": value for place, numbers in measured.items() for name, value in numbers.items()}


def asking(
    recipe: Recipe, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> Callable[[Sequence[Example]], Sequence[str]]:
    """Examples → the model's answers to their prompts, as the recipe bounds them."""
    from fttool.rows.prompts import prompt_ids
    from fttool.runs.stages.model import positions_of
    from fttool.training.answering import Answering

    settings = recipe.evaluation.generate
    answering = Answering(model=model, tokenizer=tokenizer, at_once=settings.micro_batch, positions=positions_of(model))
    return lambda examples: answering.ask([prompt_ids(example, tokenizer) for example in examples], settings.max_tokens)


def _options(run: Loaded, dtype: str) -> LoadOptions:
    """As the run loaded its model: for the classes that the final model has, where rows have classes."""
    import torch

    file, names = Record(run.path.parent).model / "config.json", list[str]()
    if run.recipe.task.learns in ("row", "word") and file.is_file():
        names = list(json.loads(file.read_text(encoding="utf-8")).get("id2label", {}).values())
    parts = run.recipe.task.build(
        TaskContext(label_counts=dict.fromkeys(names, 1), rows=len(names), masking=run.recipe.masking, **run.common)
    )
    return LoadOptions(model_class=parts.model_class, dtype=getattr(torch, dtype), attention=None, config=parts.config)
