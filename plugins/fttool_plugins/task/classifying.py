"""What a classifier says of texts: the probability of each class. For samples in a run, and for `fttool predict`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fttool.api import Masking
from fttool_plugins.batching.collate import padded
from fttool_plugins.masking.texts import encode_texts

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ROWS_AT_ONCE = 16
"""Texts in one forward pass."""
LIKELY = 0.5
"""From this probability on a class applies, where a text may have several."""


def classify(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[tuple[str, str]],
    max_length: int | None,
    *,
    as_text: bool = True,
) -> list[dict[str, float]]:
    """The probability of each class, by its name, for texts and their second texts (empty where there is none).

    `as_text` makes text of what reads like a special token in them.

    The model is in evaluation mode. Raises `ValueError` for a text without tokens.
    """
    config: Any = model.config
    names = [config.id2label[number] for number in range(config.num_labels)]
    logits_NC = _logits(model, tokenizer, texts, max_length, as_text)
    several = config.problem_type == "multi_label_classification"
    probabilities_NC = logits_NC.sigmoid() if several else logits_NC.softmax(-1)
    return [dict(zip(names, row, strict=True)) for row in probabilities_NC.tolist()]


def numbers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[tuple[str, str]],
    max_length: int | None,
    *,
    as_text: bool = True,
) -> list[float]:
    """The number of each text, by a model that has learned numbers; else as `classify`."""
    return _logits(model, tokenizer, texts, max_length, as_text)[:, 0].tolist()


def _logits(
    model: Any, tokenizer: Any, texts: Sequence[tuple[str, str]], max_length: int | None, as_text: bool
) -> Tensor:
    """The model's logits for texts, float32, (N, C)."""
    import torch

    pad_id: Any = tokenizer.pad_token_id or 0
    logits: list[Tensor] = []
    for start in range(0, len(texts), ROWS_AT_ONCE):
        rows = [
            encode_texts(tokenizer, *pair, max_length, as_text=as_text) for pair in texts[start : start + ROWS_AT_ONCE]
        ]
        batch = padded([[row] for row in rows], pad_id)
        inputs = {name: batch[name].to(model.device) for name in ("input_ids", "attention_mask")}
        if any(row.token_types for row in rows):
            inputs["token_type_ids"] = torch.zeros_like(inputs["input_ids"])
            for index, row in enumerate(rows):
                types = torch.tensor(row.token_types or [0])
                inputs["token_type_ids"][index, : len(types)] = types
        with torch.no_grad():
            logits.append(model(**inputs).logits.float())
    return torch.cat(logits)


def reads_as_text(masking: Masking | None) -> bool:
    """Whether a recipe's masking leaves no special tokens in texts; one that is not known leaves none."""
    return masking is None or not masking.keeps_control_tokens


def chosen(probabilities: Mapping[str, float], *, multi_label: bool) -> list[str]:
    """The likeliest class; where a text may have several, all that are likelier than not, the likeliest first."""
    by_rank = sorted(probabilities, key=lambda name: -probabilities[name])
    return [name for name in by_rank if probabilities[name] > LIKELY] if multi_label else by_rank[:1]


def in_words(probabilities: Mapping[str, float], *, multi_label: bool) -> str:
    """The chosen classes with their probabilities: `spam 98.1%`."""
    names = chosen(probabilities, multi_label=multi_label)
    return ", ".join(f"{name} {probabilities[name]:.1%}" for name in names) or "no class"
