"""Embeddings, layers and head are found on any architecture, and every parameter is in exactly one part."""

from typing import Any

import pytest
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification

from fttool.layers import layers

SMALL: dict[str, Any] = {
    "vocab_size": 48,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
CAUSAL = {
    "llama": SMALL,
    "qwen3": SMALL,
    "gemma2": SMALL,
    "mixtral": {**SMALL, "num_local_experts": 2},
    "gpt2": {"vocab_size": 48, "n_embd": 16, "n_layer": 3, "n_head": 2, "n_positions": 64},
    "gpt_neox": {key: value for key, value in SMALL.items() if key not in ("num_key_value_heads", "head_dim")},
}
ENCODERS = {
    "bert": {key: value for key, value in SMALL.items() if key not in ("num_key_value_heads", "head_dim")},
    "distilbert": {"vocab_size": 48, "dim": 16, "hidden_dim": 32, "n_layers": 3, "n_heads": 2},
    "modernbert": {key: value for key, value in SMALL.items() if key not in ("num_key_value_heads", "head_dim")},
}


def parts(model: Any) -> Any:
    found = layers(model)
    names = [*found.embeddings, *(name for block in found.blocks for name in block), *found.final, *found.head]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())
    return found


@pytest.mark.parametrize("kind", CAUSAL)
@pytest.mark.parametrize("tied", [True, False])
def test_causal_models(kind: str, tied: bool) -> None:
    config = AutoConfig.for_model(kind, tie_word_embeddings=tied, **CAUSAL[kind])
    found = parts(AutoModelForCausalLM.from_config(config))
    assert len(found.blocks) == 3
    assert found.tied is tied
    assert len(found.head) == (0 if tied else 1)
    assert any("embed" in name or "wte" in name for name in found.embeddings)
    assert found.final and all("norm" in name or "ln_f" in name for name in found.final)


@pytest.mark.parametrize("kind", ENCODERS)
def test_classifiers(kind: str) -> None:
    config = AutoConfig.for_model(kind, num_labels=2, **ENCODERS[kind])
    found = parts(AutoModelForSequenceClassification.from_config(config))
    assert len(found.blocks) == 3 and not found.tied
    assert "classifier.weight" in found.head
    assert found.embeddings


def test_t5_has_two_stacks() -> None:
    sizes = {"vocab_size": 48, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 3, "num_heads": 2}
    found = parts(AutoModel.from_config(AutoConfig.for_model("t5", **sizes)))
    assert len(found.blocks) == 6
