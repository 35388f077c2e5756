"""Which parameters each freezing strategy trains, on small random models."""

import pytest
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    LlamaModel,
    PreTrainedModel,
)

from fttool.api import Freezing, FreezingContext, ModelError, TrainableUnit, from_update, layers
from fttool_plugins.freezing import fttool_strategies
from fttool_plugins.freezing.full import Full
from fttool_plugins.freezing.head_only import HeadOnly


def config(tied: bool = False) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        pad_token_id=0,
        tie_word_embeddings=tied,
    )


def units(strategy: Freezing, model: PreTrainedModel) -> list[TrainableUnit]:
    context = FreezingContext(model=model, layers=layers(model), total_steps=10, steps_per_epoch=5, seed=0)
    return list(strategy.build(context).units)


def test_the_room_lists_them():
    assert [strategy.id() for strategy in fttool_strategies()] == [
        "full",
        "head-only",
        "top-layers",
        "gradual",
        "patterns",
        "bitfit",
        "lisa",
        "lora",
    ]


@pytest.mark.parametrize("tied", [False, True])
def test_full_trains_every_parameter_from_the_start(tied):
    model = LlamaForCausalLM(config(tied))
    [unit] = units(Full(), model)
    assert unit.parameters == {name for name, _ in model.named_parameters()}
    assert unit.trains_in == from_update(0)


@pytest.mark.parametrize(
    ("model_class", "head"),
    [(LlamaForCausalLM, "lm_head.weight"), (LlamaForSequenceClassification, "score.weight")],
)
def test_head_only_trains_the_head_and_changes_nothing_else(model_class, head):
    torch.manual_seed(0)
    model = model_class(config())
    [unit] = units(HeadOnly(), model)
    assert unit.parameters == {head}
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for name, p in model.named_parameters():
        p.requires_grad_(name in unit.parameters)
    labels = torch.tensor([[3, 4, 5]]) if model_class is LlamaForCausalLM else torch.tensor([1])
    model(input_ids=torch.tensor([[3, 4, 5]]), labels=labels).loss.backward()
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0).step()
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {head}


def test_head_only_refuses_a_head_that_is_the_embeddings():
    with pytest.raises(ModelError, match="shares its weights with the input embeddings") as caught:
        units(HeadOnly(), LlamaForCausalLM(config(tied=True)))
    assert 'freezing = "full"' in caught.value.problems[0].hint


def test_head_only_refuses_a_model_without_a_head():
    with pytest.raises(ModelError, match="LlamaModel has no head"):
        units(HeadOnly(), LlamaModel(config()))
