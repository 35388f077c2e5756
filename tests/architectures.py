"""Tiny random models of many architectures: what finds its way in a model must find it in all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
)

SIZES: dict[str, Any] = {
    "vocab_size": 48,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
}
"""What most configurations call their sizes, as small as they can be."""
GPT2 = {"vocab_size": 48, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64}
CLASSIFIERS: dict[str, dict[str, Any]] = {
    "bert": SIZES,
    "distilbert": {"vocab_size": 48, "dim": 16, "hidden_dim": 32, "n_layers": 2, "n_heads": 2},
    "modernbert": {**SIZES, "cls_token_id": 1, "sep_token_id": 2},
    "llama": {**SIZES, "num_key_value_heads": 1, "head_dim": 8},
    "gpt2": GPT2,
}
"""Of two layers, for heads that say a class of a row or of each word."""

SMALL: dict[str, Any] = {
    **SIZES,
    "num_hidden_layers": 3,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "pad_token_id": 0,
}
OLDER = {key: value for key, value in SMALL.items() if key not in ("num_key_value_heads", "head_dim")}

CAUSAL: dict[str, dict[str, Any]] = {
    "llama": SMALL,
    "qwen3": SMALL,
    "gemma2": SMALL,
    "mixtral": {**SMALL, "num_local_experts": 2},
    "gpt2": {**GPT2, "n_layer": 3},
    "gpt_neox": OLDER,
}
ENCODERS: dict[str, dict[str, Any]] = {
    "bert": OLDER,
    "distilbert": {"vocab_size": 48, "dim": 16, "hidden_dim": 32, "n_layers": 3, "n_heads": 2},
    "modernbert": OLDER,
}
SEQ2SEQ: dict[str, dict[str, Any]] = {
    "t5": {
        "vocab_size": 48,
        "d_model": 16,
        "d_kv": 8,
        "d_ff": 32,
        "num_layers": 3,
        "num_heads": 2,
        "decoder_start_token_id": 0,
    },
}
LAYERS = {kind: 6 if kind in SEQ2SEQ else 3 for kind in (*CAUSAL, *ENCODERS, *SEQ2SEQ)}
"""Layers of each: the two stacks of an encoder-decoder count together."""


def tiny(kind: str, *, tied: bool | None = None, seed: int = 0) -> PreTrainedModel:
    """A language model, or a classifier of two classes where the architecture is an encoder; without dropout.

    `tied`: whether the head shares the input embeddings; default: what the architecture does.
    """
    auto: Any
    for auto, table in (
        (AutoModelForCausalLM, CAUSAL),
        (AutoModelForSequenceClassification, ENCODERS),
        (AutoModelForSeq2SeqLM, SEQ2SEQ),
    ):
        if kind in table:
            options = table[kind] if tied is None else {**table[kind], "tie_word_embeddings": tied}
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                return auto.from_config(AutoConfig.for_model(kind, **options)).eval()
    raise ValueError(kind)


def batch(kind: str) -> Mapping[str, torch.Tensor]:
    """Two sequences of six tokens, with labels."""
    ids = torch.randint(4, 48, (2, 6), generator=torch.Generator().manual_seed(1))
    return {"input_ids": ids, "labels": torch.tensor([0, 1]) if kind in ENCODERS else ids}
