"""The estimate of memory, against what a run counts and what autograd keeps."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tomli_w import dumps
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from fttool.cli import main
from fttool.contracts.layers import layers
from fttool.contracts.sharding import Memory
from fttool.testing import run_recipe
from fttool.training.memory import estimate

from ...architectures import CAUSAL, ENCODERS, SEQ2SEQ, tiny


def described(tmp_path: Path, recipe: dict[str, Any]) -> dict[str, int]:
    """What a dry run says of memory."""
    file, output = tmp_path / "dry.toml", io.StringIO()
    file.write_text(dumps(recipe))
    with contextlib.redirect_stdout(output):
        assert main(["run", str(file), "--dry-run", "--json", "--set", f"run.output={tmp_path / 'dry'}"]) == 0
    return json.loads(output.getvalue().splitlines()[-1])["summary"]["memory"]


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"optimizer": {"name": "sgd"}},
        {"optimizer": {"name": "sgd", "momentum": 0.9}},
        {"optimizer": {"name": "adafactor"}},
        {"optimizer": {"name": "muon"}},
        {"regularizers": [{"name": "l2-init", "strength": 0.1}]},
        {"freezing": {"name": "top-layers", "n": 1}},
        {"precision": {"name": "bf16", "weights": "bfloat16"}},
    ],
    ids=str,
)
def test_weights_gradients_and_state_are_what_the_run_counts(
    tmp_path: Path, fttool_recipe: dict[str, Any], change: dict[str, Any]
) -> None:
    recipe = {**fttool_recipe, **change}
    held = described(tmp_path, recipe)
    (counted,) = run_recipe(recipe, tmp_path).summary["sharding"]["ranks"]
    assert held["weights"] == counted["parameter_bytes"] and held["gradients"] == counted["gradient_bytes"]
    # a step counter per parameter, and the few numbers of adafactor, whose rows and columns depend on the shape
    few = 4 * 64 + (counted["parameter_bytes"] // 8 if recipe.get("optimizer", {}).get("name") == "adafactor" else 0)
    assert held["optimizer"] == pytest.approx(counted["optimizer_bytes"], abs=few)
    assert held["device"] > 2**28 and held["total"] == sum(
        held[part] for part in ("weights", "copies", "gradients", "optimizer", "activations")
    )


def llama(hidden: int, depth: int) -> PreTrainedModel:
    config = LlamaConfig(
        vocab_size=512,
        hidden_size=hidden,
        intermediate_size=hidden * 8 // 3,
        num_hidden_layers=depth,
        num_attention_heads=4,
        num_key_value_heads=4,
    )
    return AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")


def kept(model: PreTrainedModel, rows: int, width: int) -> int:
    """Bytes that autograd keeps of a forward pass, weights left out, each storage once."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    found: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    alive: list[torch.Tensor] = []  # storages that are freed would be counted twice

    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: alive.append(tensor) or pack(tensor), lambda t: t):
        ids = torch.randint(0, 512, (rows, width))
        hidden = model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
    assert hidden.requires_grad
    return sum(found.values())


def estimated(
    model: PreTrainedModel, tokens: int, learned: int = 0, *, recomputed: bool = False, half: bool = False
) -> Memory:
    group = {"params": [p for p in model.parameters() if p.requires_grad]}
    return estimate(
        model,
        layers(model),
        optimizer=torch.optim.AdamW,
        groups=[group],
        tokens=tokens,
        learned=learned,
        recomputed=recomputed,
        half=half,
        device=2**34,
    )


@pytest.mark.parametrize(("hidden", "depth"), [(64, 4), (128, 2), (128, 8)])
def test_activations_are_near_what_autograd_keeps(hidden: int, depth: int) -> None:
    model = llama(hidden, depth)
    assert estimated(model, 4 * 96).activations == pytest.approx(kept(model, 4, 96), rel=0.05)
    model.activation_checkpointing_enable({"use_reentrant": False})
    model.train()
    inputs = kept(model, 4, 96)
    one_layer = estimated(model, 4 * 96).activations / depth
    assert estimated(model, 4 * 96, recomputed=True).activations == pytest.approx(inputs + one_layer, rel=0.1)


def test_only_layers_above_the_first_that_trains_keep_anything() -> None:
    model = llama(64, 4)
    whole = estimated(model, 384).activations
    for name, p in model.named_parameters():
        p.requires_grad_(".layers.3." in name or "lm_head" in name)
    assert estimated(model, 384).activations == whole / 4 == pytest.approx(kept(model, 4, 96), rel=0.1)
    for name, p in model.named_parameters():
        p.requires_grad_("lm_head" in name)
    assert estimated(model, 384).activations == 0
    assert estimated(model, 384, learned=10).activations == 10 * 512 * 12


def test_all_layers_keep_their_inputs_where_they_are_computed_again() -> None:
    """Frozen ones too: what comes out of the embeddings is then given a gradient."""
    model = llama(64, 4)
    for name, p in model.named_parameters():
        p.requires_grad_(".layers.3." in name or "lm_head" in name)
    one_layer = estimated(model, 384).activations
    model.activation_checkpointing_enable({"use_reentrant": False})
    model.train()
    found = estimated(model, 384, recomputed=True).activations
    assert found == pytest.approx(kept(model, 4, 96) + one_layer, rel=0.1)


@pytest.mark.parametrize("deepest", [0, 2])
def test_the_copies_of_autocast_are_those_of_all_weights_on_the_way_back(deepest: int) -> None:
    """One matrix trains, as an adapter would; gradients pass through the frozen weights above it."""
    model = llama(64, 4)
    for name, p in model.named_parameters():
        p.requires_grad_(f".layers.{deepest}.self_attn.q_proj" in name)
    found: dict[int, int] = {}
    numels = {p.numel() for p in model.parameters() if p.ndim == 2}
    alive: list[torch.Tensor] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        alive.append(tensor)
        if tensor.dtype == torch.bfloat16 and tensor.ndim == 2 and tensor.untyped_storage().nbytes() // 2 in numels:
            found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with torch.autocast("cpu", torch.bfloat16), hooks:
        model(input_ids=torch.randint(0, 512, (1, 7)), use_cache=False)
    memory = estimated(model, 7, half=True)
    assert memory.copies == pytest.approx(sum(found.values()), rel=0.15)
    assert memory.gathered == 2 * sum(p.numel() for p in model.parameters())
    assert memory.gradients == 4 * 64 * 64 and memory.optimizer == 2 * memory.gradients


@pytest.mark.parametrize("kind", [*CAUSAL, *ENCODERS, *SEQ2SEQ])
def test_every_architecture_has_an_estimate(kind: str) -> None:
    model = tiny(kind)
    found = estimated(model, 100, 50)
    total = 4 * sum(p.numel() for p in model.parameters())
    assert found.weights == found.gradients == total and found.optimizer == 2 * total
    assert found.activations > 100 * 16 * 21 * 4 and total / 8 < found.unit < total
