"""Operations, counted from a model's matrices, beside those that torch counts while the model computes."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from contextlib import suppress
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM

from fttool.api import layers
from fttool_plugins.verbs.estimate.operations import Cost, operations

from ... import architectures, causal

ROWS, TOKENS = 2, 32
NEAR = 0.02
"""Of what torch counts."""
FROZEN = ("llama", "qwen3", "gpt2", "bert", "modernbert", "mixtral")

OTHERWISE = frozenset(
    {
        # their state is carried on by a scan, which torch counts where it is written as matrix products
        *("bailing_hybrid", "bamba", "falcon_h1", "falcon_mamba", "granitemoehybrid", "jamba", "lfm2_moe", "lfm3"),
        *("mamba", "mamba2", "nemotron_h", "olmo_hybrid", "qwen3_5_moe_text", "qwen3_5_text", "qwen3_next"),
        *("recurrent_gemma", "zamba2", "lara_mini", "inkling2_loop_text", "inkling2_text", "zaya"),
        # attentions of their own making: in blocks, by an index of the keys, of two halves, of experts, twice a layer
        *("big_bird", "axk2", "deepseek_v32", "glm_moe_dsa", "diffllama", "jetmoe", "longcat_flash"),
        # layers that run several times, see other places than the text, or mix their inputs by matrices of their own
        *("hrm_text", "dory", "cpmant", "fuyu", "gemma3n_text"),
    }
)
"""Architectures of which matrices and plain attention do not say it all; `fttool estimate` measures them as well."""


def counted(model: Any, *, backward: bool) -> int:
    """What torch counts; with eager attention and experts one by one, as its other kernels for CPUs are not counted."""
    model.set_attn_implementation("eager")
    if hasattr(model, "set_experts_implementation"):
        with suppress(ValueError):  # it has none that could be chosen
            model.set_experts_implementation("eager")
    ids = torch.randint(4, 48, (ROWS, TOKENS), generator=torch.Generator().manual_seed(0))
    more = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
    with FlopCounterMode(display=False) as counter:
        loss = model(input_ids=ids, **more).logits.float().sum()
        if backward:
            loss.backward()
    return counter.get_total_flops()


def ours(cost: Cost, level: str = "token") -> float:
    slots = ROWS * TOKENS
    return cost.of(slots, ROWS if level == "row" else slots, slots * TOKENS)


def only(model: Any, trained: Collection[str]) -> None:
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trained)


@pytest.mark.parametrize(
    ("kind", "device"), [*((kind, "cpu") for kind in architectures.LAYERS), ("gemma2", "meta"), ("mixtral", "meta")]
)
def test_all_that_trains_costs_what_torch_counts(kind: str, device: str) -> None:
    level = "row" if kind in architectures.ENCODERS else "token"
    with torch.device(device):
        found = operations(architectures.tiny(kind))
    model: Any = architectures.tiny(kind)
    names = [name for name, _ in model.named_parameters()]
    assert ours(found.forward, level) == pytest.approx(counted(model, backward=False), rel=NEAR)
    trained = found.training(names, recomputed=False)
    assert ours(trained, level) == pytest.approx(counted(model, backward=True), rel=NEAR)


def parts(model: Any) -> dict[str, set[str]]:
    """What freezing strategies let train."""
    found = layers(model)
    names = {name for name, _ in model.named_parameters()}
    top = {*found.blocks[-1], *found.final, *found.head}
    biases = {name for name in names if name.endswith("bias")}
    return {
        "head-only": set(found.head) or set(found.final),
        "top-layers": top,
        "all but the embeddings": names - set(found.embeddings),
        "bitfit": biases or top,
    }


@pytest.mark.parametrize("kind", FROZEN)
@pytest.mark.parametrize("what", ["head-only", "top-layers", "all but the embeddings", "bitfit"])
def test_backward_is_counted_only_as_far_down_as_something_trains(kind: str, what: str) -> None:
    model: Any = architectures.tiny(kind, tied=None if kind in architectures.ENCODERS else False)
    trained = parts(model)[what]
    only(model, trained)
    level = "row" if kind in architectures.ENCODERS else "token"
    found = ours(operations(model).training(trained, recomputed=False), level)
    assert found == pytest.approx(counted(model, backward=True), rel=NEAR)


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gpt2"])
def test_adapters_cost_their_own_products_and_the_way_through_frozen_ones(kind: str) -> None:
    from peft import LoraConfig, LoraModel

    model: Any = architectures.tiny(kind, tied=False)
    targets = ["c_attn", "c_proj", "c_fc"] if kind == "gpt2" else ["q_proj", "v_proj", "o_proj", "down_proj"]
    config = LoraConfig(r=4, target_modules=targets, task_type="CAUSAL_LM", fan_in_fan_out=kind == "gpt2")
    LoraModel(model, config, "default")
    trained = {name for name, _ in model.named_parameters() if "lora_" in name}
    only(model, trained)
    found = ours(operations(model).training(trained, recomputed=False))
    assert found == pytest.approx(counted(model, backward=True), rel=NEAR)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "bert", "mixtral"])
@pytest.mark.parametrize("frozen", [False, True])
def test_recomputed_layers_are_counted_once_more(kind: str, frozen: bool) -> None:
    model: Any = architectures.tiny(kind, tied=None if kind == "bert" else False)
    trained = parts(model)["top-layers"] if frozen else {name for name, _ in model.named_parameters()}
    only(model, trained)
    model.activation_checkpointing_enable()
    level = "row" if kind == "bert" else "token"
    found = ours(operations(model.train()).training(trained, recomputed=True), level)
    assert found == pytest.approx(counted(model, backward=True), rel=NEAR)


def test_of_experts_those_are_counted_that_a_token_is_sent_to() -> None:
    few, many = (
        operations(
            AutoModelForCausalLM.from_config(
                AutoConfig.for_model("mixtral", **{**architectures.SMALL, "num_local_experts": number})
            )
        ).forward
        for number in (2, 8)
    )
    router = 2 * 16 * (8 - 2) * 3  # its matrix grows, in each of three layers
    assert many.slot - few.slot == router


@pytest.mark.full
@pytest.mark.parametrize("kind", causal.kinds())
def test_every_causal_architecture(kind: str) -> None:
    """Of those that can be made tiny; what is counted otherwise must be, or it does not belong into the list."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model = causal.tiny_causal(kind)
            expected = counted(model, backward=False), counted(model, backward=True)
        except Exception:
            pytest.skip("it cannot be made tiny, or has no gradient")
    found = operations(model)
    names = [name for name, _ in model.named_parameters()]
    costs = ours(found.forward), ours(found.training(names, recomputed=False))
    near = all(abs(cost / torchs - 1) <= NEAR for cost, torchs in zip(costs, expected, strict=True))
    assert near == (kind not in OTHERWISE), (costs, expected)
