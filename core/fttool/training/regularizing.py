"""What regularizers are given: general rows one by one, the weights as they were loaded, a place for their files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from fttool.contracts.layers import layers
from fttool.contracts.model import LoadOptions, Source
from fttool.contracts.rows import Encoded
from fttool.contracts.strategy import Track
from fttool.contracts.task import TaskParts
from fttool.contracts.update import RegularizerContext
from fttool.errors import Problem, RecipeError, did_you_mean
from fttool.recipe.loaded import Loaded
from fttool.rows.rows import Rows
from fttool.rows.tokens import JoinedRows
from fttool.training.evaluation import model_inputs
from fttool.training.randomness import untouched_randomness
from fttool.training.shards import sharded_like
from fttool.world import World

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def regularizer_context(
    loaded: Loaded,
    *,
    model: PreTrainedModel,
    source: Source,
    options: LoadOptions,
    tokenizer: PreTrainedTokenizerBase,
    rows: Rows,
    collate: Callable[[Sequence[Sequence[Encoded]]], dict[str, Tensor]],
    parts: TaskParts,
    total_steps: int,
    run_dir: Path,
    track: Track,
    world: World,
) -> RegularizerContext:
    """The context before freezing: every parameter trains, and what `options` says was newly initialised is new."""
    return RegularizerContext(
        model=model,
        layers=layers(model),
        total_steps=total_steps,
        trained=frozenset(name for name, _ in model.named_parameters()),
        new=frozenset(options.newly_initialised),
        run_dir=run_dir,
        writes=world.first,
        score=parts.score,
        items=parts.items,
        general=lambda name: OneByOne(general_rows(rows, name), lambda row: collate([[row]]), model),
        general_batch=lambda name, chosen: general_batch(general_rows(rows, name), chosen, collate, model),
        start_model=partial(start_model, source, options, parts, tokenizer),
        start=lambda: shared_alike(start(source, options), model),
        track=track,
        **loaded.common,
    )


class OneByOne(Sequence[Mapping[str, Tensor]]):
    """Rows as micro-batches of one row each, made when they are asked for, on the model's device."""

    def __init__(
        self, rows: Sequence[Encoded], collate: Callable[[Encoded], dict[str, Tensor]], model: PreTrainedModel
    ) -> None:
        self.rows, self.collate, self.model = rows, collate, model

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return OneByOne([self.rows[i] for i in range(*index.indices(len(self)))], self.collate, self.model)
        return model_inputs(self.collate(self.rows[index]), self.model.device)


def general_rows(rows: Rows, name: str | None) -> Sequence[Encoded]:
    """The rows of the general dataset of this name, or of all; `RecipeError` where there are none."""
    if not rows.general:
        hint = 'add [[data.general]] with path = "rows.jsonl": rows that represent what the model knew'
        raise RecipeError(Problem("there are no general rows", hint=hint))
    if name is None:
        return JoinedRows(rows.general.values())
    if name not in rows.general:
        hint = did_you_mean(name, list(rows.general))
        raise RecipeError(Problem(f"no general dataset is called '{name}'", hint=hint))
    return rows.general[name]


def general_batch(
    rows: Sequence[Encoded],
    chosen: Sequence[int],
    collate: Callable[[Sequence[Sequence[Encoded]]], dict[str, Tensor]],
    model: PreTrainedModel,
) -> dict[str, Any]:
    """These rows in one micro-batch, a sequence each, on the model's device."""
    return model_inputs(collate([[rows[row]] for row in chosen]), model.device)


def start_model(
    source: Source, options: LoadOptions, parts: TaskParts, tokenizer: PreTrainedTokenizerBase, dtype: str | None
) -> PreTrainedModel:
    """The model as it was loaded for the task, again, its weights in this format or that of the run; frozen."""
    kind = options.dtype if dtype is None else getattr(torch, dtype)
    with untouched_randomness(range(torch.cuda.device_count())):
        model = source.model(replace(options, dtype=kind, newly_initialised=set[str]()))
    if parts.fit is not None:
        parts.fit(model, tokenizer)
    return model.requires_grad_(False).eval()


def start(source: Source, options: LoadOptions) -> dict[str, Tensor]:
    """The weights as the source gives them, in the format of the run; what it initialises at random is left out."""
    again = replace(options, newly_initialised=set[str]())
    with untouched_randomness(range(torch.cuda.device_count())):
        model = source.model(again)
    return {name: p.detach() for name, p in model.named_parameters() if name not in again.newly_initialised}


def shared_alike(weights: Mapping[str, Tensor], model: PreTrainedModel) -> Mapping[str, Tensor]:
    """Weights shared as the model's where those are `DTensor`s; the others stay where they were read."""
    present = dict(model.named_parameters())
    pairs = {name: (tensor, present[name]) for name, tensor in weights.items() if name in present}
    return {name: sharded_like(t, p) if isinstance(p, DTensor) else t for name, (t, p) in pairs.items()}
