"""Embeddings, layers and head are found on any architecture, and every parameter is in exactly one part."""

from typing import Any

import pytest
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
)

from fttool.contracts.layers import layers

from ...architectures import CAUSAL, ENCODERS, SIZES, tiny


def parts(model: Any) -> Any:
    found = layers(model)
    names = [*found.embeddings, *(name for block in found.blocks for name in block), *found.final, *found.head]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())
    return found


@pytest.mark.parametrize("kind", CAUSAL)
@pytest.mark.parametrize("tied", [True, False])
def test_causal_models(kind: str, tied: bool) -> None:
    found = parts(tiny(kind, tied=tied))
    assert len(found.blocks) == 3
    assert found.tied is tied
    assert len(found.head) == (0 if tied else 1)
    assert any("embed" in name or "wte" in name for name in found.embeddings)
    assert found.final and all("norm" in name or "ln_f" in name for name in found.final)


@pytest.mark.parametrize("kind", ENCODERS)
def test_classifiers(kind: str) -> None:
    found = parts(tiny(kind))
    assert len(found.blocks) == 3 and not found.tied
    assert "classifier.weight" in found.head
    assert found.embeddings


SMALL = {**SIZES, "num_hidden_layers": 3}
OTHERS: dict[str, tuple[Any, dict[str, Any], list[int]]] = {
    "xlm": (
        AutoModelForSequenceClassification,
        {"vocab_size": 48, "emb_dim": 16, "n_layers": 3, "n_heads": 2},
        [16] * 3,
    ),
    "opt": (AutoModelForCausalLM, {**SMALL, "ffn_dim": 32, "word_embed_proj_dim": 16}, [16] * 3),
    "bart": (
        AutoModelForSeq2SeqLM,
        {
            **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 2),
            **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim"), 32),
            "vocab_size": 48,
            "d_model": 16,
            "encoder_layers": 3,
            "decoder_layers": 2,
        },
        [16] * 3 + [26] * 2,
    ),
    "jamba": (
        AutoModelForCausalLM,
        {
            **SMALL,
            **dict.fromkeys(("num_experts", "attn_layer_period", "expert_layer_period", "num_key_value_heads"), 2),
            **dict.fromkeys(("mamba_d_state", "mamba_dt_rank"), 4),
            **dict.fromkeys(("attn_layer_offset", "expert_layer_offset"), 1),
        },
        [17, 9, 17],
    ),
    "gemma3n_text": (
        AutoModelForCausalLM,
        {
            **SMALL,
            "num_key_value_heads": 1,
            "head_dim": 8,
            "vocab_size_per_layer_input": 48,
            "hidden_size_per_layer_input": 4,
            "laurel_rank": 2,
            "num_kv_shared_layers": 0,
            "intermediate_size": [32] * 3,
            "layer_types": ["full_attention"] * 3,
            "activation_sparsity_pattern": [0.0] * 3,
        },
        [24] * 3,
    ),
    "canine": (
        AutoModelForSequenceClassification,
        {**SMALL, "local_transformer_stride": 8, "num_hash_buckets": 48},
        [20, 16, 16, 20, 16],
    ),
    "perceiver": (
        AutoModelForMaskedLM,
        {
            **dict.fromkeys(("d_latents", "d_model", "vocab_size"), 16),
            **dict.fromkeys(("num_self_attention_heads", "num_cross_attention_heads"), 2),
            "num_latents": 4,
            "num_self_attends_per_block": 3,
        },
        [16] * 3,
    ),
}
"""Models that are built another way: parts of layers in lists side by side, layers of two classes, lists that are no
layers, norms written down out of order, no table of tokens."""


@pytest.mark.parametrize("kind", OTHERS)
def test_models_that_are_built_another_way(kind: str) -> None:
    auto, options, tensors = OTHERS[kind]
    found = parts(auto.from_config(AutoConfig.for_model(kind, **options)))
    assert [len(block) for block in found.blocks] == tensors
    assert found.embeddings
    if kind == "opt":
        assert found.final == ("model.decoder.final_layer_norm.weight", "model.decoder.final_layer_norm.bias")
    if kind == "bart":
        assert "model.decoder.layernorm_embedding.weight" in found.embeddings


def test_t5_has_two_stacks() -> None:
    found = parts(tiny("t5"))
    assert len(found.blocks) == 6
    assert found.blocks[2][-1] == "encoder.final_layer_norm.weight"
    assert found.final == ("decoder.final_layer_norm.weight",)
