"""The built-in optimizers: their options reach torch, and their steps are those of the formulas."""

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from fttool.api import Optimizer, OptimizerContext
from fttool_plugins.optimizer import fttool_strategies
from fttool_plugins.optimizer.adamw import AdamW
from fttool_plugins.optimizer.sgd import SGD

CPU = torch.device("cpu")


def context(device: str = "cpu", unfused: bool = False) -> OptimizerContext:
    return OptimizerContext(device=torch.device(device), unfused=unfused)


def trained(strategy: Optimizer, gradients: list[Tensor], *, unfused: bool = False) -> Tensor:
    """A weight of ones after one step per gradient, in a group such as core makes."""
    weight = nn.Parameter(torch.ones_like(gradients[0]))
    parts = strategy.build(context(unfused=unfused))
    group = {"params": [weight], "lr": strategy.lr, "weight_decay": strategy.weight_decay}
    optimizer = parts.optimizer_class([group], **parts.options)
    for gradient in gradients:
        weight.grad = gradient.clone()
        optimizer.step()
    return weight.detach()


@pytest.fixture
def gradients() -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(3, 2, dtype=torch.float64) for _ in range(4)]


def test_the_room_lists_them():
    assert [strategy.id() for strategy in fttool_strategies()] == ["adamw", "sgd"]


@pytest.mark.parametrize("unfused", [False, True])
def test_adamw_is_the_formula(gradients, unfused):
    strategy = AdamW(lr=0.1, weight_decay=0.2, betas=(0.8, 0.9), eps=1e-3)
    weight, m, v = torch.ones(3, 2, dtype=torch.float64), 0.0, 0.0
    for t, g in enumerate(gradients, start=1):
        m, v = 0.8 * m + 0.2 * g, 0.9 * v + 0.1 * g**2
        weight = weight - 0.1 * 0.2 * weight
        weight = weight - 0.1 * (m / (1 - 0.8**t)) / ((v / (1 - 0.9**t)).sqrt() + 1e-3)
    torch.testing.assert_close(trained(strategy, gradients, unfused=unfused), weight, rtol=0, atol=1e-12)


@pytest.mark.parametrize("unfused", [False, True])
@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_is_the_formula(gradients, nesterov, unfused):
    strategy = SGD(lr=0.1, weight_decay=0.2, momentum=0.7, nesterov=nesterov)
    weight, b = torch.ones(3, 2, dtype=torch.float64), 0.0
    for g in gradients:
        g = g + 0.2 * weight
        b = 0.7 * b + g
        weight = weight - 0.1 * (g + 0.7 * b if nesterov else b)
    torch.testing.assert_close(trained(strategy, gradients, unfused=unfused), weight, rtol=0, atol=1e-12)


@pytest.mark.parametrize("strategy", [AdamW(), SGD()])
def test_the_step_is_fused_where_it_can_be(strategy):
    assert strategy.build(context()).options["fused"] is True
    assert strategy.build(context("cuda")).options["fused"] is True
    assert strategy.build(context(unfused=True)).options["fused"] is None
    assert strategy.build(context("meta")).options["fused"] is None


@pytest.mark.parametrize(
    ("strategy", "options"),
    [
        (AdamW, {"betas": (0.9, 1.0)}),
        (AdamW, {"betas": (0.9,)}),
        (AdamW, {"eps": 0.0}),
        (AdamW, {"lr": 0.0}),
        (AdamW, {"momentum": 0.9}),
        (SGD, {"momentum": 1.0}),
        (SGD, {"lr": -0.1}),
    ],
)
def test_options_out_of_range_are_refused(strategy, options):
    with pytest.raises(ValidationError):
        strategy(**options)


def test_nesterov_without_momentum_says_what_to_do():
    recipe: Any = None
    [problem] = SGD(momentum=0.0, nesterov=True).check(recipe)
    assert problem.message == "nesterov = true needs a momentum above 0"
    assert problem.key == ("optimizer", "momentum")
    assert "0.9" in problem.hint
    assert not list(SGD(nesterov=True).check(recipe))
    assert not list(SGD(momentum=0.0).check(recipe))
