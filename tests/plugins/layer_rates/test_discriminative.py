"""`discriminative`: the factor of each layer, against values worked out by hand."""

from typing import Any

import pytest
from pydantic import ValidationError
from transformers import PreTrainedModel

from fttool.api import LayerRatesContext, Layers, ModelError, layers
from fttool.testing import tiny_model
from fttool_plugins.layer_rates.discriminative import Discriminative, factors

from ...architectures import tiny

# Layers from the lowest up, then the embeddings. decay^(L−1−i) and decay^L.
REFERENCE: list[tuple[float, list[float], float]] = [
    (0.95, [0.857375, 0.9025, 0.95, 1.0], 0.81450625),
    (0.3846, [0.05688894, 0.14791716, 0.3846, 1.0], 0.02187949),
    (0.5, [0.125, 0.25, 0.5, 1.0], 0.0625),
    (1.0, [1.0, 1.0, 1.0, 1.0], 1.0),
]


def rates(model: PreTrainedModel, decay: float = 0.95) -> dict[str, float]:
    rate = Discriminative(decay=decay).build(LayerRatesContext(model=model, layers=layers(model)))
    return {name: rate(name) for name, _ in model.named_parameters()}


@pytest.mark.parametrize(("decay", "by_layer", "embeddings"), REFERENCE)
def test_the_rate_falls_from_layer_to_layer(decay: float, by_layer: list[float], embeddings: float) -> None:
    found = rates(tiny_model(num_hidden_layers=4), decay)
    assert found.pop("model.embed_tokens.weight") == pytest.approx(embeddings, rel=1e-6)
    assert found.pop("model.norm.weight") == found.pop("lm_head.weight") == 1.0
    for number, factor in enumerate(by_layer):
        of_layer = [found.pop(name) for name in list(found) if name.startswith(f"model.layers.{number}.")]
        assert of_layer == [pytest.approx(factor, rel=1e-6)] * 9
    assert not found


def test_deep_models_reach_down_to_a_fifth() -> None:
    parts = Layers(embeddings=("e",), blocks=tuple((f"b{i}",) for i in range(32)), final=(), head=("h",), tied=False)
    found = factors(parts, 0.95)
    assert found["b0"] == pytest.approx(0.2039068257, rel=1e-9)
    assert found["e"] == pytest.approx(0.1937114845, rel=1e-9)
    assert found["b31"] == found["h"] == 1.0


def test_the_table_in_the_docstring_is_right() -> None:
    text = Discriminative.__doc__ or ""
    for decay, depth in ((0.95, 4), (0.3846, 4), (0.95, 32)):
        for power in (depth - 2, depth - 1, depth):
            assert f" {decay**power:.4f} " in text


def test_a_tied_head_has_the_rate_of_the_embeddings() -> None:
    found = rates(tiny_model(num_hidden_layers=4, tie_word_embeddings=True), 0.5)
    assert found["model.embed_tokens.weight"] == 0.0625 and "lm_head.weight" not in found


def test_the_decoder_stands_on_the_encoder() -> None:
    found = rates(tiny("t5"), 0.5)
    assert found["decoder.final_layer_norm.weight"] == found["decoder.block.2.layer.0.layer_norm.weight"] == 1.0
    assert found["decoder.block.0.layer.0.layer_norm.weight"] == 0.25
    assert found["encoder.block.2.layer.0.layer_norm.weight"] == found["encoder.final_layer_norm.weight"] == 0.125
    assert found["encoder.block.0.layer.0.layer_norm.weight"] == 0.5**5
    assert found["shared.weight"] == 0.5**6


def test_a_model_without_layers_is_refused() -> None:
    model = tiny_model()
    bare = Layers(embeddings=("model.embed_tokens.weight",), blocks=(), final=(), head=(), tied=False)
    with pytest.raises(ModelError, match="counts layers, and LlamaForCausalLM has no stack of them") as caught:
        Discriminative().build(LayerRatesContext(model=model, layers=bare))
    assert caught.value.problems[0].hint == 'set layer_rates = "uniform"'


@pytest.mark.parametrize("decay", [0, -0.5, 1.01, "slow"])
def test_the_rate_never_rises_downwards(decay: Any) -> None:
    with pytest.raises(ValidationError, match="decay"):
        Discriminative(decay=decay)
