"""The same weights as outputs × inputs (`Linear`) and as inputs × outputs (GPT-2's `Conv1D`) take the same steps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.pytorch_utils import Conv1D

from fttool.api import ALWAYS, OptimizerContext, TrainableUnit, layers
from fttool.testing import regularizer_context
from fttool.training.groups import make_groups, optimizer_groups
from fttool_plugins.optimizer.adafactor import Adafactor
from fttool_plugins.optimizer.muon import Muon
from fttool_plugins.regularizer.mixout import Mixout


def gpt2() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_inner": 64, "n_positions": 32, "vocab_size": 50}
    return GPT2LMHeadModel(GPT2Config(**sizes, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0))


def with_linear() -> GPT2LMHeadModel:
    """The same model with each `Conv1D` replaced by the `Linear` that computes the same."""
    model = gpt2()
    for name, module in list(model.named_modules()):
        if isinstance(module, Conv1D):
            inputs, outputs = module.weight.shape
            linear = nn.Linear(inputs, outputs)
            linear.weight.data = module.weight.data.T.contiguous()
            linear.bias.data = module.bias.data
            owner, _, last = name.rpartition(".")
            setattr(model.get_submodule(owner), last, linear)
    return model


def trained(model: Any, strategy: Any, updates: int = 3) -> Any:
    """The model after a few updates by the strategy over core's groups."""
    parts = strategy.build(OptimizerContext(device=torch.device("cpu"), unfused=True))
    found, parameters = layers(model), dict(model.named_parameters())
    keys = parts.group_keys
    groups = make_groups(
        parameters,
        [TrainableUnit(parameters=frozenset(parameters), trains_in=ALWAYS)],
        lambda name: 1.0,
        lr=strategy.lr,
        weight_decay=strategy.weight_decay,
        pulls=[],
        keys=lambda name, p: keys(name, p, found) if keys else {},
    )
    optimizer = parts.optimizer_class(optimizer_groups(model, groups), **parts.options)
    ids = torch.arange(24).view(2, 12) % 50
    for _ in range(updates):
        optimizer.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    return model


def test_layers_ask_the_module() -> None:
    names = {f"transformer.h.{i}.{part}.weight" for i in (0, 1) for part in ("attn.c_attn", "attn.c_proj")}
    names |= {f"transformer.h.{i}.mlp.{part}.weight" for i in (0, 1) for part in ("c_fc", "c_proj")}
    assert layers(gpt2()).transposed == names and not layers(with_linear()).transposed


@pytest.mark.parametrize(
    "strategy",
    [
        Muon(lr=0.02, adjust_lr="original", weight_decay=0.1, adamw_lr=1e-3),
        Muon(lr=0.01, adjust_lr="match_rms_adamw", weight_decay=0.1),
        Adafactor(lr=0.01, weight_decay=0.1),
    ],
    ids=["muon-original", "muon-rms", "adafactor"],
)
def test_a_matrix_takes_the_step_that_its_transposed_takes(strategy: Any) -> None:
    """To the rounding of Muon's products in bfloat16; a factor that is read the wrong way round is √3 or 2."""
    start, ours, twin = gpt2(), trained(gpt2(), strategy), trained(with_linear(), strategy)
    transposed = layers(ours).transposed
    for name, p in ours.named_parameters():
        other = twin.get_parameter(name)
        before = start.get_parameter(name)
        step, expected = p - before, (other.T if name in transposed else other) - before
        assert (step - expected).norm() <= 0.1 * expected.norm(), name


def test_mixout_replaces_the_same_inputs(tmp_path: Any) -> None:
    outputs: list[torch.Tensor] = []
    ids = torch.arange(24).view(2, 12) % 50
    for model in (gpt2(), with_linear()):
        built = Mixout(p=0.5).build(regularizer_context(model, tmp_path))
        assert built.modify is not None
        built.modify(model)
        with torch.no_grad():
            for p in model.parameters():
                p.mul_(1.5)
        model.train()
        torch.manual_seed(3)
        outputs.append(model(input_ids=ids).logits)
    torch.testing.assert_close(*outputs, rtol=0, atol=1e-4)
