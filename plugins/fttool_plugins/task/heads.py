"""Models with a head that predicts one thing per row: where they read it, and how they pad."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fttool.api import DataError, ModelError, Problem, TaskParts

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
"""What of a micro-batch the model sees."""
EOS = "<eos>"
"""What transformers says where a text does not end as the model needs it."""


def rows_of(batch: Mapping[str, Tensor]) -> int:
    """Rows of a micro-batch."""
    return len(batch["input_ids"])


def of_a_head(model_class: type[Any], **parts: Any) -> TaskParts:
    """The parts of a task whose model has a new head and is trained by transformers' `Trainer`."""
    from transformers import Trainer, TrainingArguments

    return TaskParts(
        model_class=model_class,
        trainer_class=Trainer,
        arguments_class=TrainingArguments,
        arguments={},
        causal=False,
        try_it='predict {run} --text "your text"',
        **parts,
    )


def row_logits(model: PreTrainedModel, batch: Mapping[str, Tensor]) -> Tensor:
    """The model's logits for the N rows of a micro-batch, float32, (N, C)."""
    try:
        return model(**{name: batch[name] for name in INPUTS if name in batch}).logits.float()
    except ValueError as fault:
        if EOS not in str(fault):
            raise
        message = f"the model reads a row at its last end-of-text token, and rows of a batch differ in those: {fault}"
        hint = "write no such token into a text, and give all rows a second text or none"
        raise DataError(Problem(message, hint=hint, key=("data", "train"))) from fault


def agree(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Make model and tokenizer agree on where a text ends; `ModelError` for a tokenizer that marks no end for T5 or
    BART, which read a text there.
    """
    import torch

    set_padding(model, tokenizer)
    config: Any = model.config
    if config.is_encoder_decoder:
        try:
            with torch.no_grad():
                model(input_ids=torch.tensor([tokenizer("a")["input_ids"]], device=model.device))
        except ValueError as fault:
            if EOS not in str(fault):
                raise
            message = f"{type(model).__name__} reads a text at its end-of-text token, and the tokenizer adds none"
            hint = "take the model's own tokenizer, or let tokenizer.json add the token (post_processor)"
            raise ModelError(Problem(message, hint=hint, key=("model", "source"))) from fault


def set_padding(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Let model and tokenizer pad alike, on the right: a decoder finds the end of a text by its padding.

    Without a padding token the end-of-text token serves, as a text does not hold it.
    """
    config: Any = model.config
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            hint = "name a pad_token in its tokenizer_config.json"
            message = "the tokenizer has neither a padding nor an end-of-text token"
            raise ModelError(Problem(message, hint=hint, key=("model", "source")))
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    for each in {id(c): c for c in (config, config.get_text_config())}.values():
        each.pad_token_id = tokenizer.pad_token_id
