"""`l2-init`: the factor 2 of its gradient, which parameters it pulls, and what it cannot go with."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from fttool.api import Pull, RecipeError
from fttool.testing import regularizer_context, tiny_model
from fttool.training.pulls import anchored, pull_value
from fttool_plugins.precision.auto import Auto
from fttool_plugins.precision.bf16 import Bf16
from fttool_plugins.regularizer import fttool_strategies
from fttool_plugins.regularizer.l2_init import L2Init


def pull_of(strategy: L2Init, model: Any) -> Pull:
    [pull] = strategy.build(regularizer_context(model, Path())).pulls
    return pull


def coefficients(strategy: L2Init) -> dict[str, float]:
    made = tiny_model()
    pull = pull_of(strategy, made)
    return {name: pull.coefficient(name) for name, _ in made.named_parameters()}


def test_the_room_lists_it():
    assert L2Init in fttool_strategies()


def test_the_gradient_of_the_penalty_is_twice_the_strength():
    """One step of plain SGD, far from θ₀, with no other gradient: what moves is −lr·∇ of λ‖θ − θ₀‖²."""
    strength, rate = 0.3, 0.1
    made = tiny_model()
    pull = pull_of(L2Init(strength=strength), made)
    assert not pull.decoupled and pull.towards == "start" and pull.importance is None
    parameters = dict(made.named_parameters())
    groups = [{"params": [p], "pull": pull.coefficient(name)} for name, p in parameters.items()]
    optimizer = anchored(torch.optim.SGD)(groups, lr=rate)
    for p in parameters.values():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    start = {name: p.detach().clone() for name, p in parameters.items()}
    with torch.no_grad():
        for p in parameters.values():
            p += torch.randn_like(p)
    penalty = strength * sum(((p - start[name]) ** 2).sum() for name, p in parameters.items())
    assert isinstance(penalty, torch.Tensor)
    assert pull_value(optimizer) == pytest.approx(float(penalty.detach()), rel=1e-5)
    gradients = torch.autograd.grad(penalty, list(parameters.values()))
    expected = [p.detach() - rate * g for p, g in zip(parameters.values(), gradients, strict=True)]
    for p in parameters.values():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    torch.testing.assert_close([p.detach() for p in parameters.values()], expected, rtol=0, atol=1e-6)


def test_all_parameters_are_pulled_unless_patterns_say_which():
    assert set(coefficients(L2Init(strength=0.25)).values()) == {0.5}
    some = coefficients(L2Init(strength=0.25, parameters=("*.mlp.*", "lm_head.*")))
    pulled = {name for name, value in some.items() if value == 0.5}
    assert pulled == {name for name in some if ".mlp." in name or name == "lm_head.weight"}
    assert {some[name] for name in some.keys() - pulled} == {0.0}


def test_decoupled_is_handed_on():
    pull = pull_of(L2Init(strength=1.0, decoupled=True), tiny_model())
    assert pull.decoupled
    assert pull.coefficient("lm_head.weight") == 2.0


def test_a_pattern_that_fits_nothing_is_refused():
    with pytest.raises(RecipeError, match=r"no parameter is called 'model\.layer\.\*'") as caught:
        coefficients(L2Init(strength=1.0, parameters=("model.layer.*",)))
    assert "model.embed_tokens.weight" in caught.value.problems[0].hint


def test_patterns_of_weights_that_never_train_are_refused():
    trained = frozenset(name for name, _ in tiny_model().named_parameters() if ".layers.1." in name)
    context = regularizer_context(tiny_model(), Path(), trained=trained)
    [pull] = L2Init(strength=1.0, parameters=("*.mlp.*",)).build(context).pulls
    assert pull.coefficient("model.layers.1.mlp.up_proj.weight") and not pull.coefficient("lm_head.weight")
    with pytest.raises(RecipeError, match="none of those that its parameters name do") as caught:
        L2Init(strength=1.0, parameters=("*.layers.0.*", "lm_head.*")).build(context)
    assert "[freezing]" in caught.value.problems[0].hint


@pytest.mark.parametrize("options", [{}, {"strength": 0.0}, {"strength": -1.0}, {"strength": 1.0, "parameters": ()}])
def test_options_out_of_range_are_refused(options: dict[str, Any]):
    with pytest.raises(ValidationError):
        L2Init(**options)


def test_bfloat16_weights_are_refused():
    strategy = L2Init(strength=0.01)
    [problem] = strategy.check(SimpleNamespace(precision=Bf16(weights="bfloat16")))
    assert problem.key == ("precision", "weights")
    assert "l2-init" in problem.message and 'weights = "float32"' in problem.hint
    for fine in (Bf16(), Auto()):
        assert not list(strategy.check(SimpleNamespace(precision=fine)))
