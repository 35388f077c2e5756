"""Embeddings, layers and head are found on any architecture, and every parameter is in exactly one part."""

from typing import Any

import pytest

from fttool.training.layers import layers

from ...architectures import CAUSAL, ENCODERS, tiny


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


def test_t5_has_two_stacks() -> None:
    found = parts(tiny("t5"))
    assert len(found.blocks) == 6
    assert found.blocks[2][-1] == "encoder.final_layer_norm.weight"
    assert found.final == ("decoder.final_layer_norm.weight",)
