"""`top-layers`: what trains is counted from the output down."""

from typing import Any

import pytest
from pydantic import ValidationError
from torch import nn
from transformers import LlamaConfig, PreTrainedModel

from fttool.api import ALWAYS, ModelError
from fttool_plugins.freezing.top_layers import TopLayers

from ...architectures import tiny
from .contexts import EMBEDDINGS, HEAD, NORM, layer, llama, units


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"n": 1}, layer(3) | {NORM, HEAD}),
        ({"n": 3}, layer(1) | layer(2) | layer(3) | {NORM, HEAD}),
        ({"n": 1, "final_norm": False}, layer(3) | {HEAD}),
        ({"n": 1, "head": False}, layer(3) | {NORM}),
        ({"n": 2, "embeddings": True}, layer(2) | layer(3) | {NORM, HEAD, EMBEDDINGS}),
    ],
)
def test_the_upper_part_trains_always(options: dict[str, Any], expected: set[str]) -> None:
    [unit] = units(TopLayers(**options))
    assert unit.parameters == expected
    assert unit.trains_in == ALWAYS


def test_all_layers_and_the_embeddings_are_everything() -> None:
    [unit] = units(TopLayers(n=4, embeddings=True))
    assert unit.parameters == {name for name, _ in llama().named_parameters()}


@pytest.mark.parametrize("embeddings", [False, True])
def test_a_tied_head_stays_with_the_embeddings(embeddings: bool) -> None:
    [unit] = units(TopLayers(n=1, embeddings=embeddings), llama(tie_word_embeddings=True))
    assert unit.parameters == layer(3) | {NORM} | ({EMBEDDINGS} if embeddings else set())


def test_the_decoder_of_an_encoder_decoder_is_on_top() -> None:
    [unit] = units(TopLayers(n=3), tiny("t5"))
    assert {name.split(".")[0] for name in unit.parameters} == {"decoder"}
    [unit] = units(TopLayers(n=4, final_norm=False), tiny("t5"))
    encoder = {name for name in unit.parameters if name.startswith("encoder")}
    assert encoder and all(name.startswith(("encoder.block.2.", "encoder.final_layer_norm")) for name in encoder)


def test_more_layers_than_there_are_is_refused_with_their_number() -> None:
    with pytest.raises(ModelError, match=r"freezing\.n is 5, and LlamaForCausalLM has 4 layers") as caught:
        units(TopLayers(n=5))
    [problem] = caught.value.problems
    assert problem.key == ("freezing", "n") and problem.hint == "set n = 4 or less"


class Flat(PreTrainedModel):
    """A model without a stack of layers."""

    config_class = LlamaConfig
    base_model_prefix = "body"

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__(config)
        self.body = nn.Linear(2, 2)

    def get_input_embeddings(self) -> None:
        return None

    def get_output_embeddings(self) -> None:
        return None


def test_a_model_without_layers_is_refused() -> None:
    with pytest.raises(ModelError, match="'top-layers' counts layers, and Flat has no stack of them") as caught:
        units(TopLayers(n=1), Flat(LlamaConfig()))
    assert "patterns" in caught.value.problems[0].hint


@pytest.mark.parametrize("options", [{}, {"n": 0}, {"n": 1.5}])
def test_the_number_of_layers_must_be_said(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="n\n"):
        TopLayers(**options)
