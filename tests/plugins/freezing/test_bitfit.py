"""`bitfit`: biases, and the new head of a classifier."""

import pytest
from transformers import PreTrainedModel

from fttool.api import ALWAYS, ModelError
from fttool_plugins.freezing.bitfit import BitFit, is_bias

from ...architectures import tiny
from .contexts import HEAD, llama, units


def trained(strategy: BitFit, model: PreTrainedModel) -> set[str]:
    [unit] = units(strategy, model)
    assert unit.trains_in == ALWAYS
    return set(unit.parameters)


def biases(model: PreTrainedModel) -> set[str]:
    return {name for name, _ in model.named_parameters() if name.endswith(".bias")}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bert.encoder.layer.0.attention.self.query.bias", True),
        ("bias", True),
        ("attention.in_proj_bias", True),
        ("model.layers.0.mlp.experts.gate_up_proj_bias", True),
        ("lstm.bias_hh_l0", True),
        ("lstm.weight_hh_l0", False),
        ("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", False),
        ("bias_free.weight", False),
    ],
)
def test_what_a_bias_is(name: str, expected: bool) -> None:
    assert is_bias(name) is expected


def test_a_classifier_trains_whole_beside_the_biases() -> None:
    """As in the paper; the biases of norms count too."""
    bert = tiny("bert")
    assert trained(BitFit(), bert) == biases(bert) | {"classifier.weight"}
    assert "bert.encoder.layer.0.output.LayerNorm.bias" in biases(bert)
    assert trained(BitFit(head=False), bert) == biases(bert)


def test_the_head_of_a_language_model_stays_unless_it_is_asked_for() -> None:
    model = llama(attention_bias=True)
    assert trained(BitFit(), model) == biases(model)
    assert trained(BitFit(head=True), model) == biases(model) | {HEAD}
    assert len(biases(model)) == 4 * 4  # q, k, v and o in four layers


def test_the_share_is_that_of_the_paper() -> None:
    """BERT-base has 0.09% of its numbers in biases, says table 1 of arXiv 2106.10199 (BERT-large: 0.08%)."""
    import torch
    from transformers import BertConfig, BertModel

    with torch.device("meta"):
        bert = BertModel(BertConfig())
    numbers = dict(bert.named_parameters())
    share = sum(numbers[name].numel() for name in trained(BitFit(), bert)) / sum(p.numel() for p in numbers.values())
    assert round(100 * share, 2) == 0.09


def test_a_model_without_biases_is_refused() -> None:
    with pytest.raises(ModelError, match="bitfit trains biases, and LlamaForCausalLM has none") as caught:
        units(BitFit())
    assert "top-layers" in caught.value.problems[0].hint


def test_the_bias_of_a_head_alone_is_none() -> None:
    """ModernBERT has no biases; that of its new classifier does not make this bitfit."""
    with pytest.raises(ModelError, match="has none"):
        units(BitFit(), tiny("modernbert"))


def test_a_head_that_cannot_be_had_is_refused() -> None:
    tied = llama(tie_word_embeddings=True, attention_bias=True)
    with pytest.raises(
        ModelError, match=r"freezing\.head is true, but the head of LlamaForCausalLM shares its weights"
    ):
        units(BitFit(head=True), tied)
    assert trained(BitFit(), tied) == biases(tied)
    with pytest.raises(ModelError, match=r"freezing\.head is true, but LlamaModel has none"):
        units(BitFit(head=True), llama(attention_bias=True).model)
