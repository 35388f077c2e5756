"""The model with its weights, checked against tokenizer and rows, and how long the run is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fttool.contracts.model import LoadOptions, Source
from fttool.contracts.sharding import Numerics
from fttool.contracts.task import TaskParts
from fttool.errors import ModelError, Problem
from fttool.recipe.loaded import Loaded
from fttool.rows import chat
from fttool.rows.rows import Rows
from fttool.runs.stages.batches import make_batches
from fttool.runs.stages.rows import WithRows
from fttool.runs.stages.setup import extended

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from fttool.rows.loader import Batching


@dataclass(frozen=True, slots=True)
class Length:
    """How long a run is, in updates."""

    total_steps: int
    """Of the whole run."""
    steps_per_epoch: int
    """Of one pass over the rows."""


@dataclass(frozen=True, kw_only=True)
class WithModel(WithRows):
    """A run whose model is loaded."""

    options: LoadOptions
    """How it was; which parameters were newly initialised is in there too."""
    model: PreTrainedModel
    """With its weights."""
    notes: Sequence[str]
    """What the task says of the model."""
    batching: Batching
    """The micro-batches of training and evaluation."""
    length: Length
    """How long the run is."""


def with_model(run: WithRows) -> WithModel:
    """Load the model, and make micro-batches for its kind of attention."""
    recipe = run.loaded.recipe
    run.watch.stage("loading the model")
    options = load_options(run.loaded, run.parts, run.numerics)
    model = load_model(run.source, options, run.tokenizer, run.rows, recipe.run.seed)
    if run.parts.fit is not None:
        run.parts.fit(model, run.tokenizer)
    notes = list(run.parts.notes(model)) if run.parts.notes is not None else []
    for note in notes:
        run.watch.note(note)
    batching = make_batches(run.loaded, run.rows, run.tokenizer, run.parts, model, run.world)
    steps_per_epoch = -(-len(batching.loader) // recipe.accumulation)
    length = Length(recipe.run.max_steps or (recipe.run.epochs or 1) * steps_per_epoch, steps_per_epoch)
    return extended(run, WithModel, options=options, model=model, notes=notes, batching=batching, length=length)


def load_options(loaded: Loaded, parts: TaskParts, numerics: Numerics) -> LoadOptions:
    """How the model is to be loaded."""
    import torch

    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[numerics.weights]
    return LoadOptions(
        model_class=parts.model_class, dtype=dtype, attention=loaded.recipe.model.attention, config=parts.config
    )


def load_model(
    source: Source, options: LoadOptions, tokenizer: PreTrainedTokenizerBase, rows: Rows, seed: int
) -> PreTrainedModel:
    """The model with its weights, checked against tokenizer and rows; a new head is initialised by `seed`."""
    from transformers import set_seed

    set_seed(seed)
    model = source.model(options)
    table: Any = model.get_input_embeddings()
    embedded = table.weight.shape[0]
    if len(tokenizer) > embedded:
        message = f"the tokenizer has {len(tokenizer)} tokens, the model embeds {embedded}"
        hint = "use the tokenizer that belongs to this model"
        raise ModelError(Problem(message, hint=hint, key=("model", "source")))
    positions = positions_of(model)
    datasets = (rows.train, rows.eval, *rows.general.values(), *rows.retention.values())
    longest = max(length for dataset in datasets for length in dataset.lengths)
    if positions is not None and longest > positions:
        message = f"a row has {longest} tokens, and the model has positions for {positions}"
        hint = f"set batching.max_length = {positions} or less"
        raise ModelError(Problem(message, hint=hint, key=("batching", "max_length")))
    chat.stop_at(model, chat.stop_ids(tokenizer, rows.train))
    return model


def positions_of(model: PreTrainedModel) -> int | None:
    """Tokens that the model has positions for; None where their number has no end."""
    positions: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    tables: list[Any] = [module for name, module in model.named_modules() if name.endswith("position_embeddings")]
    padding = getattr(tables[0], "padding_idx", None) if tables else None
    # RoBERTa and its kin number from after the padding's own position on
    return positions if positions is None or padding is None else positions - padding - 1
