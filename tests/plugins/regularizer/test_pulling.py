"""Every strategy that pulls, against the autograd gradient of its paper's penalty, through a whole training loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import SGD, Adafactor, Adagrad, AdamW

from fttool.testing import tiny_batch, tiny_model, tiny_score
from fttool.testing.tiny import tiny_encoded
from fttool_plugins.regularizer.ewc import EWC
from fttool_plugins.regularizer.l2_init import L2Init
from fttool_plugins.regularizer.l2_sp import L2SP

NEW = {"lm_head.weight"}
"""As the twins' context has it."""
EXACT = {"rtol": 0.0, "atol": 1e-12}
"""For float64: what is left is the order of additions."""


@cache
def fisher(dtype: torch.dtype) -> dict[str, Tensor]:
    """The empirical Fisher information of the context's three general rows, one row and one backward at a time."""
    model = tiny_model().to(dtype).eval()
    total = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for row in tiny_encoded():
        model.zero_grad()
        tiny_score(model, tiny_batch([row])).losses_N.sum().backward()
        for name, p in model.named_parameters():
            assert p.grad is not None
            total[name] += p.grad**2 / 3
    return total


def l2_init(weights: Mapping[str, Tensor], start: Mapping[str, Tensor]) -> Tensor:
    pulled = {name: w for name, w in weights.items() if name.startswith("model.")}
    return sum(0.3 * ((w - start[name]) ** 2).sum() for name, w in pulled.items())  # type: ignore[return-value]


def l2_sp(weights: Mapping[str, Tensor], start: Mapping[str, Tensor]) -> Tensor:
    shared = sum(((w - start[name]) ** 2).sum() for name, w in weights.items() if name not in NEW)
    head = sum((w**2).sum() for name, w in weights.items() if name in NEW)
    return 0.2 / 2 * shared + 0.4 / 2 * head  # type: ignore[return-value]


def ewc(weights: Mapping[str, Tensor], start: Mapping[str, Tensor]) -> Tensor:
    terms = ((w, start[name], fisher(w.dtype)[name]) for name, w in weights.items() if name not in NEW)
    return sum(5 / 2 * (f * (w - a) ** 2).sum() for w, a, f in terms)  # type: ignore[return-value]


def together(weights: Mapping[str, Tensor], start: Mapping[str, Tensor]) -> Tensor:
    return l2_init(weights, start) + l2_sp(weights, start) + ewc(weights, start)


def strategies(decoupled: bool) -> dict[str, tuple[list[Any], Callable[..., Tensor]]]:
    init = L2Init(strength=0.3, decoupled=decoupled, parameters=("model.*",))
    sp = L2SP(alpha=0.2, beta=0.4, decoupled=decoupled)
    weighed = EWC(strength=5, fisher="empirical", decoupled=decoupled)
    return {
        "l2-init": ([init], l2_init),
        "l2-sp": ([sp], l2_sp),
        "ewc": ([weighed], ewc),
        "together": ([init, sp, weighed], together),
    }


every_strategy = pytest.mark.parametrize("name", ["l2-init", "l2-sp", "ewc", "together"])
coupled_and_decoupled = pytest.mark.parametrize("decoupled", [False, True], ids=["coupled", "decoupled"])


@every_strategy
@coupled_and_decoupled
@pytest.mark.parametrize("optimizer", [AdamW, SGD, Adafactor, Adagrad])
def test_training_equals_the_twin(twins: Any, name: str, decoupled: bool, optimizer: Any) -> None:
    """Two micro-batches an update, clipped; the penalty that is logged is the paper's too."""
    chosen, penalty = strategies(decoupled)[name]
    twins = replace(twins, optimizer=optimizer)
    ours, logged = twins.ours(chosen, updates=4)
    theirs, value = twins.twin(penalty, decoupled, updates=range(4))
    torch.testing.assert_close(ours, theirs, **EXACT)
    assert logged == pytest.approx(value, rel=1e-10) and value > 0


@every_strategy
def test_the_comparison_can_fail(twins: Any, name: str) -> None:
    """Half of the penalty is far outside the tolerance."""
    chosen, penalty = strategies(False)[name]
    ours, _ = twins.ours(chosen, updates=4)
    theirs, _ = twins.twin(lambda *weights: penalty(*weights) / 2, False, updates=range(4))
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in ours) > 1e-5


@every_strategy
@coupled_and_decoupled
def test_what_unfreezes_later_is_pulled_from_then_on(twins: Any, name: str, decoupled: bool) -> None:
    chosen, penalty = strategies(decoupled)[name]
    later = frozenset(name for name, _ in tiny_model().named_parameters() if ".layers.1." in name)
    twins = replace(twins, later=later | NEW)
    ours, _ = twins.ours(chosen, updates=4)
    theirs, _ = twins.twin(penalty, decoupled, updates=range(4))
    torch.testing.assert_close(ours, theirs, **EXACT)


@every_strategy
@coupled_and_decoupled
def test_a_step_that_loss_scaling_skips_pulls_nothing(twins: Any, name: str, decoupled: bool) -> None:
    """The twin never makes these updates."""
    chosen, penalty = strategies(decoupled)[name]
    twins = replace(twins, dtype=torch.float32, optimizer=SGD)
    ours, _ = twins.ours(chosen, updates=5, overflows=[0, 2])
    theirs, _ = twins.twin(penalty, decoupled, updates=[1, 3, 4])
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    every, _ = twins.twin(penalty, decoupled, updates=range(5))
    assert max(float((ours[name] - every[name]).abs().max()) for name in ours) > 1e-4
