"""`uniform`: the optimizer's rate for every parameter."""

from transformers import LlamaConfig, LlamaForCausalLM

from fttool.api import LayerRatesContext, layers
from fttool_plugins.layer_rates import fttool_strategies
from fttool_plugins.layer_rates.uniform import Uniform


def test_the_room_lists_it():
    assert [strategy.id() for strategy in fttool_strategies()] == ["uniform", "discriminative"]


def test_every_factor_is_1():
    config = LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2
    )
    model = LlamaForCausalLM(config)
    rate = Uniform().build(LayerRatesContext(model=model, layers=layers(model)))
    assert {rate(name) for name, _ in model.named_parameters()} == {1.0}
