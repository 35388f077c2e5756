"""Pulls against a naive twin: autograd on λ‖θ − θ₀‖² beside the clipped gradient, then the bare optimizer."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adafactor, Adagrad, AdamW, Muon, Optimizer

from fttool.errors import RecipeError
from fttool.training.pulls import anchored, pull_value, set_importance
from fttool_plugins.optimizer.muon_adamw import MuonAdamW

EXACT = {"rtol": 0.0, "atol": 1e-12}
"""For float64: what is left is the order of additions."""
BITWISE = {"rtol": 0.0, "atol": 0.0}


class Lion(Optimizer):
    """Someone else's optimizer: state made on the first step, an own counter in the group."""

    def __init__(self, params: Any, lr: float = 1e-3, weight_decay: float = 0.0):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            group["step"] = group.get("step", 0) + 1
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.sub_(torch.sign(state["momentum"] * 0.9 + p.grad * 0.1), alpha=group["lr"])
                state["momentum"].mul_(0.99).add_(p.grad, alpha=0.01)


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "adamw": partial(AdamW, lr=0.02, weight_decay=0.1),
    "adamw-foreach": partial(AdamW, lr=0.02, foreach=True),
    "adamw-fused": partial(AdamW, lr=0.02, fused=True),
    "sgd": partial(SGD, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
    "sgd-plain": partial(SGD, lr=0.05),
    "sgd-dampening": partial(SGD, lr=0.05, momentum=0.9, dampening=0.5, weight_decay=0.01),
    "adafactor": partial(Adafactor, lr=0.05, weight_decay=0.1),
    "adagrad": partial(Adagrad, lr=0.05),
    "muon": partial(Muon, lr=0.02),
    "muon-adamw, muon": partial(MuonAdamW, lr=0.02, weight_decay=0.1, rule="muon"),
    "muon-adamw, adamw": partial(MuonAdamW, lr=0.02, weight_decay=0.1, rule="adamw", adamw={"fused": True}),
    "lion": partial(Lion, lr=0.01, weight_decay=0.1),
}
every_optimizer = pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)


def pulled(make: Callable[..., Optimizer]) -> Callable[..., Optimizer]:
    assert isinstance(make, partial)
    return partial(anchored(make.func), **make.keywords)


def network(dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7, bias=False), nn.Tanh(), nn.Linear(7, 3, bias=False)).to(dtype)


def batch(update: int, piece: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(100 * update + piece)
    return tuple(torch.randn(4, n, generator=generator, dtype=torch.float64).to(dtype) for n in (5, 3))


def loss(model: nn.Module, update: int, piece: int = 0) -> Tensor:
    inputs, targets = batch(update, piece, next(model.parameters()).dtype)
    return nn.functional.mse_loss(model(inputs), targets)


def backward(model: nn.Module, update: int, pieces: int = 2, max_norm: float = 0.3) -> None:
    """Accumulate over micro-batches, then clip: what stands in `grad` when `step` is called."""
    model.zero_grad()
    for piece in range(pieces):
        (loss(model, update, piece) / pieces).backward()
    nn.utils.clip_grad_norm_(model.parameters(), max_norm)


def add_penalty_gradient(model: nn.Module, start: list[Tensor], strength: float) -> None:
    penalty = strength * sum(((p - a) ** 2).sum() for p, a in zip(model.parameters(), start, strict=True))
    assert isinstance(penalty, Tensor)
    for p, gradient in zip(model.parameters(), torch.autograd.grad(penalty, list(model.parameters())), strict=True):
        assert p.grad is not None
        p.grad += gradient


def weights(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def wait(optimizer: Optimizer, update: int, starts_at: int) -> None:
    """The first group waits until `starts_at`, as core tells it before each update."""
    optimizer.param_groups[0]["waits"] = update < starts_at


def distance(ours: list[Tensor], twin: list[Tensor]) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(ours, twin, strict=True))


# -- the pull itself -------------------------------------------------------------------------------


@every_optimizer
def test_coupled_pull_equals_autograd_on_the_penalty(make):
    strength = 0.4
    ours, twin = network(), network()
    start = weights(twin)
    ours_step = pulled(make)([{"params": ours.parameters(), "pull": 2 * strength}])
    twin_step = make(twin.parameters())
    for update in range(6):
        backward(ours, update)
        ours_step.step()
        backward(twin, update)
        add_penalty_gradient(twin, start, strength)
        twin_step.step()
    torch.testing.assert_close(weights(ours), weights(twin), **EXACT)


@every_optimizer
def test_a_wrong_factor_would_be_seen(make):
    """The twin with λ/2 instead of λ ends far outside the tolerance, so the test above can fail."""
    ours, twin = network(), network()
    start = weights(twin)
    ours_step = pulled(make)([{"params": ours.parameters(), "pull": 0.8}])
    twin_step = make(twin.parameters())
    for update in range(6):
        backward(ours, update)
        ours_step.step()
        backward(twin, update)
        add_penalty_gradient(twin, start, 0.2)
        twin_step.step()
    assert distance(weights(ours), weights(twin)) > 1e-4


@every_optimizer
def test_decoupled_pull_equals_a_step_towards_the_start_before_the_own_step(make):
    coefficient = 0.8
    ours, twin = network(), network()
    start = weights(twin)
    ours_step = pulled(make)([{"params": ours.parameters(), "decoupled_pull": coefficient}])
    twin_step = make(twin.parameters())
    for update in range(6):
        for optimizer in (ours_step, twin_step):
            optimizer.param_groups[0]["lr"] *= 0.9  # a schedule: the pull follows the rate
        backward(ours, update)
        ours_step.step()
        backward(twin, update)
        with torch.no_grad():
            for p, a in zip(twin.parameters(), start, strict=True):
                p -= twin_step.param_groups[0]["lr"] * coefficient * (p - a)
        twin_step.step()
    torch.testing.assert_close(weights(ours), weights(twin), **EXACT)


@every_optimizer
@pytest.mark.parametrize("decoupled", [False, True])
def test_a_pull_weighted_by_importance_equals_the_penalty_of_each_weight(make, decoupled):
    """½·F·(θ − θ₀)² beside c/2·(θ − θ₀)²; decoupled, the same gradient as a step towards the start."""
    ours, twin = network(), network()
    start = weights(twin)
    generator = torch.Generator().manual_seed(5)
    importance = [torch.rand(p.shape, generator=generator, dtype=p.dtype) * 3 for p in twin.parameters()]
    prefix = "decoupled_" if decoupled else ""
    ours_step = pulled(make)([{"params": ours.parameters(), f"{prefix}pull": 0.2, f"{prefix}importance": True}])
    set_importance(ours_step, dict(zip(ours.parameters(), importance, strict=True)))
    twin_step = make(twin.parameters())
    for update in range(6):
        backward(ours, update)
        ours_step.step()
        backward(twin, update)
        terms = zip(twin.parameters(), start, importance, strict=True)
        penalty = sum((0.5 * (0.2 + f) * (p - a) ** 2).sum() for p, a, f in terms)
        gradients = torch.autograd.grad(penalty, list(twin.parameters()))
        for p, gradient in zip(twin.parameters(), gradients, strict=True):
            if decoupled:
                p.data -= twin_step.param_groups[0]["lr"] * gradient
            else:
                p.grad += gradient
        twin_step.step()
    torch.testing.assert_close(weights(ours), weights(twin), **EXACT)
    value = sum(
        float((0.5 * (0.2 + f) * (p - a) ** 2).sum()) for p, a, f in zip(weights(ours), start, importance, strict=True)
    )
    assert pull_value(ours_step) == pytest.approx(value, rel=1e-12)


@every_optimizer
@pytest.mark.parametrize("decoupled", [False, True])
def test_a_pull_towards_zero_equals_the_penalty_on_the_weight_itself(make, decoupled):
    ours, twin = network(), network()
    key = "decoupled_zero_pull" if decoupled else "zero_pull"
    ours_step = pulled(make)([{"params": ours.parameters(), key: 0.3}])
    twin_step = make(twin.parameters())
    for update in range(6):
        backward(ours, update)
        ours_step.step()
        backward(twin, update)
        for p in twin.parameters():
            if decoupled:
                p.data *= 1 - twin_step.param_groups[0]["lr"] * 0.3
            else:
                p.grad += 0.3 * p.detach()
        twin_step.step()
    torch.testing.assert_close(weights(ours), weights(twin), **EXACT)
    assert pull_value(ours_step) == pytest.approx(sum(0.15 * float((p**2).sum()) for p in weights(ours)), rel=1e-12)
    assert not any("anchor" in ours_step.state[p] for p in ours.parameters())


def test_pulls_fold_and_groups_differ():
    """Two penalties are one with the sum of their strengths; other groups have their own pull, or none."""
    torch.manual_seed(1)
    ours = nn.ModuleList(nn.Linear(4, 4) for _ in range(3)).double()
    twin = copy.deepcopy(ours)
    start = weights(twin)
    ours_step = anchored(AdamW)(
        [
            {"params": ours[0].parameters(), "pull": 2 * 0.3 + 2 * 0.1},
            {"params": ours[1].parameters(), "pull": 0.05, "decoupled_pull": 0.5},
            {"params": ours[2].parameters()},
        ],
        lr=0.02,
    )
    twin_step = AdamW(twin.parameters(), lr=0.02)
    for update in range(5):
        for model in (ours, twin):
            model.zero_grad()
            inputs = batch(update)[0][:, :4]
            sum(layer(inputs).pow(2).mean() for layer in model).backward()
        ours_step.step()
        penalty = 0.0
        for index, (p, a) in enumerate(zip(twin.parameters(), start, strict=True)):
            squares = ((p - a) ** 2).sum()
            penalty += (0.3 * squares + 0.1 * squares) if index < 2 else 0.025 * squares if index < 4 else 0.0
        penalty.backward()
        with torch.no_grad():
            for p, a in list(zip(twin.parameters(), start, strict=True))[2:4]:
                p -= 0.02 * 0.5 * (p - a)
        twin_step.step()
    torch.testing.assert_close(weights(ours), weights(twin), **EXACT)
    assert not any("anchor" in ours_step.state[p] for p in ours[2].parameters())


def test_float32_matches_the_twin():
    ours, twin = network(torch.float32), network(torch.float32)
    start = weights(twin)
    ours_step = anchored(AdamW)([{"params": ours.parameters(), "pull": 0.02}], lr=1e-3)
    twin_step = AdamW(twin.parameters(), lr=1e-3)
    for update in range(10):
        backward(ours, update)
        ours_step.step()
        backward(twin, update)
        add_penalty_gradient(twin, start, 0.01)
        twin_step.step()
    assert distance(weights(ours), weights(twin)) <= 1e-6


def test_the_anchor_is_the_value_before_the_first_step_and_not_at_construction():
    model = network()
    optimizer = anchored(AdamW)([{"params": model.parameters(), "pull": 1.0}], lr=0.1)
    assert not optimizer.state
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(2.0)
    start = weights(model)
    for update in range(3):
        backward(model, update)
        optimizer.step()
    anchors = [optimizer.state[p]["anchor"] for p in model.parameters()]
    torch.testing.assert_close(anchors, start, **BITWISE)
    assert distance(weights(model), start) > 0


def test_pull_value_is_the_penalty():
    model = network()
    start = weights(model)
    first, second = model.parameters()
    optimizer = anchored(AdamW)(
        [{"params": [first], "pull": 0.6, "decoupled_pull": 0.1}, {"params": [second], "pull": 0.2}], lr=0.1
    )
    assert pull_value(optimizer) == 0.0
    for update in range(3):
        backward(model, update)
        optimizer.step()
    squares = [float(((p - a) ** 2).sum()) for p, a in zip(weights(model), start, strict=True)]
    assert pull_value(optimizer) == pytest.approx(0.35 * squares[0] + 0.1 * squares[1], rel=1e-12)
    assert pull_value(AdamW(model.parameters())) == 0.0


@pytest.mark.parametrize("size", [1, 8, 21, 36, 10**6])
def test_the_size_of_a_piece_changes_nothing(monkeypatch, size):
    """Of 35 and 21 numbers; the last parameter is transposed, so it has no flat view and stays whole."""
    found = []
    for one in (size, 2**18):
        monkeypatch.setattr("fttool.training.pulls._PIECE", {"cpu": one})
        model = network()
        model.append(nn.Linear(3, 4, bias=False).double())
        torch.manual_seed(1)
        model[-1].weight = nn.Parameter(torch.randn(3, 4, dtype=torch.float64).T)
        optimizer = anchored(AdamW)([{"params": model[:-1].parameters(), "pull": 0.6}], lr=0.1)
        optimizer.add_param_group({"params": model[-1].parameters(), "pull": 0.3, "decoupled_pull": 0.2})
        for update in range(4):
            model.zero_grad()
            model(batch(update)[0]).square().mean().backward()
            optimizer.step()
        found.append([*weights(model), torch.tensor(pull_value(optimizer), dtype=torch.float64)])
    torch.testing.assert_close(*found, **EXACT)
    assert found[0][-1] > 0


def test_a_parameter_without_gradient_is_left_alone_and_may_get_one_later():
    model = network()
    first, second = model.parameters()
    optimizer = anchored(AdamW)([{"params": [first, second], "pull": 1.0, "decoupled_pull": 1.0}], lr=0.1)
    start = second.detach().clone()
    backward(model, 0)
    second.grad = None
    optimizer.step()
    torch.testing.assert_close(second.detach(), start, **BITWISE)
    optimizer.load_state_dict(optimizer.state_dict())  # torch reads "step" of every state that is not empty
    backward(model, 1)
    optimizer.step()
    assert [int(optimizer.state[p]["step"]) for p in (first, second)] == [2, 1]


# -- with loss scaling -----------------------------------------------------------------------------


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("fused", [False, True])
def test_loss_scaling_skips_an_overflow_and_pulls_on_unscaled_gradients(fused, clip):
    """Without clipping, nobody has unscaled the gradients before `GradScaler.step`."""
    ours, twin = network(torch.float32), network(torch.float32)
    start = weights(twin)
    ours_step = anchored(AdamW)([{"params": ours.parameters(), "pull": 0.8}], lr=0.02, fused=fused)
    twin_step = AdamW(twin.parameters(), lr=0.02)
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    for update in range(6):
        overflow = update in (0, 3)
        before = weights(ours)
        ours.zero_grad()
        scaler.scale(loss(ours, update)).backward()
        if overflow:
            next(ours.parameters()).grad[0, 0] = torch.inf
        if clip:
            scaler.unscale_(ours_step)
            nn.utils.clip_grad_norm_(ours.parameters(), 0.3)
        scaler.step(ours_step)
        scaler.update()
        if overflow:
            torch.testing.assert_close(weights(ours), before, **BITWISE)
            continue
        backward(twin, update, pieces=1, max_norm=0.3 if clip else torch.inf)
        add_penalty_gradient(twin, start, 0.4)
        twin_step.step()
    assert scaler.get_scale() == 64.0
    assert distance(weights(ours), weights(twin)) <= 1e-6
    anchors = [ours_step.state[p]["anchor"] for p in ours.parameters()]
    torch.testing.assert_close(anchors, start, **BITWISE)


# -- resume ----------------------------------------------------------------------------------------


@every_optimizer
@pytest.mark.parametrize("stop", [1, 2, 3, 4])
def test_resume_is_bitwise_equal_to_an_uninterrupted_run(make, stop, tmp_path):
    def start() -> tuple[nn.Module, Optimizer]:
        model = network(torch.float32)
        first, second = model.parameters()
        groups = [
            {"params": [first], "pull": 0.5, "importance": True, "reserve": True},
            {"params": [second], "pull": 0.1, "decoupled_pull": 0.1, "zero_pull": 0.1},
        ]
        optimizer = pulled(make)(groups)
        set_importance(optimizer, {first: torch.linspace(0, 1, first.numel()).view_as(first)})
        return model, optimizer

    def train(model: nn.Module, optimizer: Optimizer, updates: range) -> None:
        for update in updates:
            wait(optimizer, update, 3)
            backward(model, update)
            optimizer.step()

    whole, whole_step = start()
    train(whole, whole_step, range(6))

    first, first_step = start()
    train(first, first_step, range(stop))
    torch.save([first.state_dict(), first_step.state_dict()], tmp_path / "checkpoint")
    second, second_step = start()
    model_state, optimizer_state = torch.load(tmp_path / "checkpoint", weights_only=True)
    second.load_state_dict(model_state)
    second_step.load_state_dict(optimizer_state)
    train(second, second_step, range(stop, 6))

    torch.testing.assert_close(weights(second), weights(whole), **BITWISE)
    for p, q in zip(whole.parameters(), second.parameters(), strict=True):
        assert second_step.state[q]["anchor"].dtype == torch.float32
        assert second_step.state[q].keys() == whole_step.state[p].keys()
        torch.testing.assert_close(second_step.state[q]["anchor"], whole_step.state[p]["anchor"], **BITWISE)


# -- groups that start late ------------------------------------------------------------------------


@every_optimizer
@pytest.mark.parametrize("reserve", [False, True])
def test_a_waiting_group_is_as_if_it_were_not_there(make, reserve):
    """Until it unfreezes: training without it. From then on: an optimizer that meets it for the first time."""
    starts_at = 3
    ours, twin = network(), network()
    first, second = ours.parameters()
    twin_first, twin_second = twin.parameters()
    ours_step = pulled(make)([{"params": [first], "reserve": reserve}, {"params": [second]}])
    twin_step = make([twin_second])
    for update in range(6):
        wait(ours_step, update, starts_at)
        if update == starts_at:
            twin_step.add_param_group({"params": [twin_first]})
        backward(ours, update)
        ours_step.step()
        backward(twin, update)
        twin_step.step()
        torch.testing.assert_close(weights(ours), weights(twin), **BITWISE)
        if update < starts_at:
            torch.testing.assert_close(first.detach(), weights(network())[0], **BITWISE)
    assert not torch.equal(first, weights(network())[0])
    theirs = [{k: v for k, v in g.items() if k not in ("params", "waits", "reserve")} for g in ours_step.param_groups]
    assert theirs == [{k: v for k, v in g.items() if k != "params"} for g in reversed(twin_step.param_groups)]


def test_reserved_state_is_there_from_the_first_step_and_adam_counts_from_the_unfreeze():
    model = network()
    first, second = model.parameters()
    optimizer = anchored(AdamW)([{"params": [first], "pull": 0.5, "reserve": True}, {"params": [second]}], lr=0.1)
    shapes = []
    for update in range(4):
        wait(optimizer, update, 2)
        backward(model, update)
        gradient = first.grad
        optimizer.step()
        assert first.grad is gradient
        assert optimizer.state[first]["placeholder"] == (update < 2)
        shapes.append({k: v.shape for k, v in optimizer.state[first].items() if isinstance(v, Tensor)})
        if update == 2:
            assert int(optimizer.state[first]["step"]) == 1
    assert shapes[0] == shapes[1] == shapes[3]
    assert set(shapes[0]) == {"anchor", "step", "exp_avg", "exp_avg_sq"}
    assert int(optimizer.state[first]["step"]) == 2
    assert int(optimizer.state[second]["step"]) == 4


def test_a_group_that_waits_now_and_then_keeps_its_state():
    """As layer-wise sampling has it: moments stand still while the group waits, and are not lost."""
    ours, twin = network(), network()
    ours_step = anchored(AdamW)([{"params": [p], "reserve": True} for p in ours.parameters()], lr=0.02)
    twin_step = AdamW(twin.parameters(), lr=0.02)
    for update in range(8):
        sits_out = update % 3 == 1
        ours_step.param_groups[0]["waits"] = sits_out
        for model in (ours, twin):
            backward(model, update)
        if sits_out:
            next(twin.parameters()).grad = None
        ours_step.step()
        twin_step.step()
    torch.testing.assert_close(weights(ours), weights(twin), **BITWISE)


def test_a_pull_begins_with_the_unfreeze():
    ours, twin = network(), network()
    start = weights(twin)
    ours_step = anchored(AdamW)([{"params": ours.parameters(), "pull": 0.8}], lr=0.02)
    twin_step = AdamW(twin.parameters(), lr=0.02)
    for update in range(6):
        wait(ours_step, update, 2)
        backward(ours, update)
        ours_step.step()
        if update >= 2:
            backward(twin, update)
            add_penalty_gradient(twin, start, 0.4)
            twin_step.step()
    torch.testing.assert_close(weights(ours), weights(twin), **EXACT)


def test_engines_may_step_one_group_or_one_piece_at_a_time():
    """DeepSpeed swaps `param_groups` (ZeRO 1, 2) or a group's `params` (ZeRO 3): many steps an update."""

    def groups(model: nn.Module) -> list[dict[str, Any]]:
        return [
            {"params": [model[0].weight, model[2].weight], "pull": 0.5, "reserve": True},
            {"params": [model[0].bias, model[2].bias], "pull": 0.1},
        ]

    def make() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)).double()

    whole, by_group, by_piece = make(), make(), make()
    steps = [anchored(AdamW)(groups(model), lr=0.1) for model in (whole, by_group, by_piece)]
    pieces = [(group, list(group["params"])) for group in steps[2].param_groups]
    for update in range(5):
        for model, optimizer in zip((whole, by_group, by_piece), steps, strict=True):
            wait(optimizer, update, 2)
            backward(model, update)
        steps[0].step()
        everything = steps[1].param_groups
        for group in everything:
            steps[1].param_groups = [group]
            steps[1].step()
        steps[1].param_groups = everything
        for group, _ in pieces:
            group["params"] = []
        for group, params in pieces:
            for p in params:
                group["params"] = [p]
                steps[2].step()
                group["params"] = []
        for group, params in pieces:
            group["params"] = params
    torch.testing.assert_close(weights(by_group), weights(whole), **BITWISE)
    torch.testing.assert_close(weights(by_piece), weights(whole), **BITWISE)


# -- being an optimizer ----------------------------------------------------------------------------


@every_optimizer
def test_without_our_keys_it_is_the_optimizer_itself(make):
    ours, twin = network(), network()
    ours_step, twin_step = pulled(make)(ours.parameters()), make(twin.parameters())
    for update in range(4):
        for model, optimizer in ((ours, ours_step), (twin, twin_step)):
            backward(model, update)
            optimizer.step()
    torch.testing.assert_close(weights(ours), weights(twin), **BITWISE)
    assert isinstance(ours_step, type(twin_step))
    ours_state, twin_state = ours_step.state_dict(), twin_step.state_dict()
    assert ours_state["param_groups"] == twin_state["param_groups"]
    torch.testing.assert_close(ours_state["state"], twin_state["state"], **BITWISE)


def test_step_hooks_run_once():
    AdamW(network().parameters())  # torch wraps a class's step when the first one is made
    model = network()
    optimizer = anchored(AdamW)([{"params": model.parameters(), "pull": 1.0}])
    calls: list[str] = []
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    backward(model, 0)
    optimizer.step()
    assert calls == ["before", "after"]


def test_wrapping_is_done_once():
    assert anchored(AdamW) is anchored(AdamW)
    assert anchored(anchored(AdamW)) is anchored(AdamW)
    assert anchored(AdamW).__name__ == "AnchoredAdamW"


def test_a_closure_is_refused():
    optimizer = anchored(SGD)(network().parameters(), lr=0.1)
    with pytest.raises(ValueError, match="closure"):
        optimizer.step(lambda: 0.0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("key", ["pull", "decoupled_pull"])
def test_half_precision_weights_with_a_pull_are_refused(dtype, key):
    model = network(dtype)
    name = str(dtype).removeprefix("torch.")
    with pytest.raises(RecipeError, match=name):
        anchored(AdamW)([{"params": model.parameters(), key: 0.1}])
    optimizer = anchored(AdamW)([{"params": model.parameters(), "thaws_at": 1}])
    backward(model, 0)
    optimizer.step()


def test_weights_that_became_half_precision_before_the_first_step_are_refused():
    model = network(torch.float32)
    optimizer = anchored(AdamW)([{"params": model.parameters(), "pull": 0.1}])
    model.to(torch.bfloat16)
    backward(model, 0)
    with pytest.raises(RecipeError, match="bfloat16"):
        optimizer.step()


def test_a_failing_step_leaves_the_anchors_in_place():
    class Failing(AdamW):
        def step(self, closure: Any = None) -> Any:
            if self.state[self.param_groups[0]["params"][0]]:
                raise RuntimeError("boom")
            return super().step(closure)

    model = network()
    optimizer = anchored(Failing)([{"params": model.parameters(), "pull": 0.1}])
    backward(model, 0)
    optimizer.step()
    with pytest.raises(RuntimeError, match="boom"):
        optimizer.step()
    assert all("anchor" in optimizer.state[p] for p in model.parameters())
    assert len(optimizer.param_groups) == 1


# -- sharded ---------------------------------------------------------------------------------------


@pytest.fixture
def process_group():
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("fused", [False, True])
def test_fully_sharded_parameters(process_group, fused):
    """Anchors of DTensors are DTensors, in training and through a checkpoint while a group waits."""
    from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor

    def groups(model: nn.Module) -> list[dict[str, Any]]:
        first, second = model.parameters()
        return [{"params": [first], "pull": 0.4, "reserve": True}, {"params": [second], "decoupled_pull": 0.4}]

    def shard(model: nn.Module) -> Optimizer:
        fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
        return anchored(AdamW)(groups(model), lr=0.1, fused=fused)

    plain, sharded = network(), network()
    plain_step, sharded_step = anchored(AdamW)(groups(plain), lr=0.1, fused=fused), shard(sharded)
    for update in range(4):
        for model, optimizer in ((plain, plain_step), (sharded, sharded_step)):
            wait(optimizer, update, 2)
            model.zero_grad()
            loss(model, update).backward()
            optimizer.step()
        if update == 0:  # through a checkpoint, while a group waits
            state = copy.deepcopy(get_optimizer_state_dict(sharded, sharded_step))
            sharded_step = anchored(AdamW)(groups(sharded), lr=0.1, fused=fused)
            set_optimizer_state_dict(sharded, sharded_step, state)
    for p, q in zip(plain.parameters(), sharded.parameters(), strict=True):
        assert isinstance(q, DTensor)
        assert isinstance(sharded_step.state[q]["anchor"], DTensor)
        torch.testing.assert_close(q.full_tensor(), p, **EXACT)
    assert pull_value(sharded_step) == pytest.approx(pull_value(plain_step), rel=1e-12)
