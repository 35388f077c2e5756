"""The built-in optimizers: their options reach torch, and their steps are those of the formulas."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from fttool.api import Layers, Optimizer, OptimizerContext, Pull, RecipeError, TrainableUnit, from_update, layers
from fttool.testing import run_recipe
from fttool.testing.tiny import tiny_model
from fttool.training.groups import Group, make_groups, optimizer_groups
from fttool.training.pulls import anchored
from fttool_plugins.optimizer import fttool_strategies
from fttool_plugins.optimizer.adafactor import Adafactor
from fttool_plugins.optimizer.adamw import AdamW
from fttool_plugins.optimizer.muon import Muon
from fttool_plugins.optimizer.muon_adamw import MuonAdamW
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
    assert {strategy.id() for strategy in fttool_strategies()} == {"adamw", "sgd", "adafactor", "muon"}


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
        (Adafactor, {"beta2_decay": 0.1}),
        (Adafactor, {"clip_threshold": 0.5}),
        (Adafactor, {"eps": -1.0}),
        (Muon, {"momentum": 1.0}),
        (Muon, {"ns_steps": 0}),
        (Muon, {"ns_steps": 100}),
        (Muon, {"adamw_lr": 0.0}),
        (Muon, {"adjust_lr": "other"}),
    ],
)
def test_options_out_of_range_are_refused(strategy, options):
    with pytest.raises(ValidationError):
        strategy(**options)


# -- adafactor -------------------------------------------------------------------------------------


ADAFACTOR = Adafactor(lr=0.1, weight_decay=0.2, beta2_decay=-0.7, eps=1e-4, smallest_rms=0.5, clip_threshold=1.1)


def test_adafactors_eps_has_a_floor_above_which_a_tensor_without_gradient_stays_what_it_is():
    with pytest.raises(ValidationError, match="greater than or equal to"):
        Adafactor(eps=0.0)
    parts = Adafactor(eps=1e-15).build(context())
    weight = torch.nn.Parameter(torch.ones(3, 2))
    weight.grad = torch.zeros(3, 2)
    parts.optimizer_class([weight], lr=0.1, **parts.options).step()
    assert torch.equal(weight, torch.ones(3, 2))


@pytest.mark.parametrize("shape", [(3, 2), (5,)])
def test_adafactor_is_the_formula(shape):
    """Shazeer and Stern 2018, algorithms 4 and 5, with torch's eps: of √V, and beside the mean of R."""
    torch.manual_seed(0)
    gradients = [torch.randn(*shape, dtype=torch.float64) for _ in range(4)]
    weight = torch.ones(shape, dtype=torch.float64)
    mean, rows, columns = 0.0, 0.0, 0.0
    for t, g in enumerate(gradients, start=1):
        new = t**-0.7
        relative = min(0.1, 1 / t**0.5) * max(0.5, float(weight.square().mean().sqrt()))
        weight = weight - 0.1 * 0.2 * weight
        if len(shape) > 1:
            rows = (1 - new) * rows + new * g.square().mean(dim=1, keepdim=True)
            columns = (1 - new) * columns + new * g.square().mean(dim=0, keepdim=True)
            v = rows @ columns / rows.mean().clamp(min=1e-4)
        else:
            mean = (1 - new) * mean + new * g.square()
            v = mean
        step = g / v.sqrt().clamp(min=1e-4)
        weight = weight - relative * step / max(1.0, float(step.square().mean().sqrt()) / 1.1)
    torch.testing.assert_close(trained(ADAFACTOR, gradients), weight, rtol=0, atol=1e-12)


@pytest.mark.parametrize("strategy", [ADAFACTOR, Adafactor()])
def test_adafactor_is_torchs(gradients, strategy):
    weight = nn.Parameter(torch.ones_like(gradients[0]))
    twin = torch.optim.Adafactor(
        [weight],
        lr=strategy.lr,
        beta2_decay=strategy.beta2_decay,
        eps=(strategy.eps, strategy.smallest_rms),
        d=strategy.clip_threshold,
        weight_decay=strategy.weight_decay,
    )
    for gradient in gradients:
        weight.grad = gradient.clone()
        twin.step()
    torch.testing.assert_close(trained(strategy, gradients), weight.detach(), rtol=0, atol=0)


def test_adafactor_keeps_two_vectors_for_a_matrix():
    weight = nn.Parameter(torch.ones(30, 20))
    parts = Adafactor().build(context())
    optimizer = parts.optimizer_class([weight], **parts.options)
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    assert sum(value.numel() for value in optimizer.state[weight].values()) == 30 + 20 + 1


# -- muon ------------------------------------------------------------------------------------------

MATRICES = {
    f"model.layers.{index}.{name}.weight"
    for index in range(2)
    for name in (
        *(f"self_attn.{one}_proj" for one in "qkvo"),
        *(f"mlp.{one}_proj" for one in ("gate", "up", "down")),
    )
}
"""Of the tiny Llama."""


def grouped(strategy: Optimizer, model: Any, *, pulls: Any = (), late: frozenset[str] = frozenset()) -> list[Group]:
    """Groups as core makes them; those in `late` train from update 2 on."""
    parts = strategy.build(context())
    found, parameters = layers(model), dict(model.named_parameters())
    keys = parts.group_keys
    units = [
        TrainableUnit(parameters=frozenset(parameters) - late),
        TrainableUnit(parameters=late, trains_in=from_update(2)),
    ]
    return make_groups(
        parameters,
        units,
        lambda name: 0.5 if ".0." in name else 1.0,
        lr=strategy.lr,
        weight_decay=strategy.weight_decay,
        pulls=pulls,
        keys=lambda name, p: keys(name, p, found) if keys else {},
    )


def give_gradients(model: Any, update: int) -> None:
    draw = torch.Generator().manual_seed(update)
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=draw).to(p.dtype)


@pytest.mark.parametrize("tied", [False, True])
def test_muon_is_for_the_matrices_of_the_layers(tied):
    groups = grouped(Muon(lr=0.02, adamw_lr=0.001), tiny_model(tie_word_embeddings=tied))
    assert {name for group in groups if group.keys["rule"] == "muon" for name in group.names} == MATRICES
    rest = {name: group for group in groups if group.keys["rule"] == "adamw" for name in group.names}
    outside = {"model.embed_tokens.weight", "model.norm.weight", *([] if tied else ["lm_head.weight"])}
    norms = {f"model.layers.{i}.{place}_layernorm.weight" for i in (0, 1) for place in ("input", "post_attention")}
    assert rest.keys() == outside | norms
    assert {group.lr for group in groups if group.keys["rule"] == "muon"} == {0.02, 0.01}
    assert rest["model.norm.weight"].lr == 0.001 and rest["model.layers.0.input_layernorm.weight"].lr == 0.0005
    one_rate = grouped(Muon(lr=0.02), tiny_model())
    assert {group.lr for group in one_rate} == {0.02, 0.01}


@pytest.mark.parametrize("adjust_lr", ["match_rms_adamw", "original"])
@pytest.mark.parametrize("nesterov", [False, True])
def test_each_rule_is_torchs_own_bit_for_bit(adjust_lr, nesterov):
    """Muon alone over the matrices and AdamW alone over the rest, while a schedule moves the rates."""
    strategy = Muon(
        lr=0.02,
        adamw_lr=0.005,
        weight_decay=0.1,
        adjust_lr=adjust_lr,
        nesterov=nesterov,
        momentum=0.9,
        ns_steps=4,
        betas=(0.8, 0.95),
        eps=1e-6,
    )
    ours, twin = tiny_model(), tiny_model()
    groups = grouped(strategy, ours)
    parts = strategy.build(context())
    optimizer = parts.optimizer_class(optimizer_groups(ours, groups), **parts.options)
    by_name = dict(twin.named_parameters())
    muon, adamw = (
        [
            {"params": [by_name[name] for name in group.names], "lr": group.lr, "weight_decay": group.weight_decay}
            for group in groups
            if group.keys["rule"] == rule
        ]
        for rule in ("muon", "adamw")
    )
    twins = [
        torch.optim.Muon(muon, momentum=0.9, nesterov=nesterov, ns_steps=4, adjust_lr_fn=adjust_lr),
        torch.optim.AdamW(adamw, betas=(0.8, 0.95), eps=1e-6, fused=True),
    ]
    for update in range(4):
        for model in (ours, twin):
            give_gradients(model, update)
        for one in (optimizer, *twins):
            one.step()
            for group in one.param_groups:
                group["lr"] *= 0.9
    for name, p in ours.named_parameters():
        assert torch.equal(p, by_name[name]), name
        state = optimizer.state[p]
        assert set(state) == ({"momentum_buffer"} if name in MATRICES else {"step", "exp_avg", "exp_avg_sq"})


@pytest.mark.parametrize("decoupled", [False, True])
def test_pulls_and_waiting_groups_under_both_rules(decoupled):
    """Against a twin that adds the penalty's gradient itself, and two optimizers that meet late groups late."""
    strategy = Muon(lr=0.02, adamw_lr=0.005, weight_decay=0.1)
    ours, twin = tiny_model().double(), tiny_model().double()
    late = frozenset({"model.layers.0.mlp.up_proj.weight", "model.layers.0.input_layernorm.weight"})
    groups = grouped(strategy, ours, pulls=[Pull(coefficient=lambda _: 0.3, decoupled=decoupled)], late=late)
    parts = strategy.build(context())
    kind: Any = anchored(parts.optimizer_class)
    entries = [{**entry, "reserve": True} for entry in optimizer_groups(ours, groups)]
    optimizer = kind(entries, **parts.options)
    by_name = dict(twin.named_parameters())
    start = {name: p.detach().clone() for name, p in by_name.items()}
    twins: dict[str, Any] = {}
    for update in range(5):
        for group, entry in zip(groups, optimizer.param_groups, strict=True):
            entry["waits"] = not group.trains(update)
        for model in (ours, twin):
            give_gradients(model, update)
        optimizer.step()
        for group in (group for group in groups if group.trains(update)):
            entry = {"params": [by_name[name] for name in group.names], "lr": group.lr}
            if group.names[0] not in twins:
                make = torch.optim.Muon if group.keys["rule"] == "muon" else torch.optim.AdamW
                options = {"adjust_lr_fn": "match_rms_adamw"} if group.keys["rule"] == "muon" else {"fused": True}
                twins[group.names[0]] = make([entry], weight_decay=group.weight_decay, **options)
            for name in group.names:
                away = by_name[name].detach() - start[name]
                if decoupled:
                    by_name[name].data -= group.lr * 0.3 * away
                else:
                    by_name[name].grad += 0.3 * away
            twins[group.names[0]].step()
    for name, p in ours.named_parameters():
        torch.testing.assert_close(p, by_name[name], rtol=0, atol=1e-12)
        assert not torch.equal(p, start[name])


def test_a_run_with_muon_resumes_bitwise(tmp_path: Path, fttool_recipe: dict[str, Any]) -> None:
    """With anchors, and layers that unfreeze after the checkpoint."""
    fttool_recipe["run"] = {"max_steps": 6, "micro_batch": 2, "log_every": 1}
    fttool_recipe["optimizer"] = {"name": "muon", "lr": 0.01, "weight_decay": 0.1}
    fttool_recipe["freezing"] = {"name": "gradual", "every": 2}
    fttool_recipe["regularizers"] = [{"name": "l2-init", "strength": 0.01}]
    fttool_recipe["checkpoints"] = {"every": 3, "keep": 9}
    whole = run_recipe(fttool_recipe, tmp_path)
    assert whole.error is None
    before = [{**line, "tokens_per_second": 0} for line in whole.metrics]
    weights = (whole.run_dir / "model" / "model.safetensors").read_bytes()
    shutil.rmtree(whole.run_dir / "checkpoints" / "checkpoint-6")
    resumed = run_recipe(fttool_recipe, tmp_path, resume=True)
    assert resumed.error is None
    assert [{**line, "tokens_per_second": 0} for line in resumed.metrics] == before
    assert (resumed.run_dir / "model" / "model.safetensors").read_bytes() == weights


def test_muon_without_layers_says_what_to_do():
    keys = Muon().build(context()).group_keys
    assert keys is not None
    nothing = Layers(embeddings=(), blocks=(), final=("weight",), head=(), tied=False)
    with pytest.raises(RecipeError, match="this model has none") as refused:
        keys("weight", torch.zeros(2, 2), nothing)
    assert "adamw" in refused.value.problems[0].hint


def test_muon_refuses_pieces_of_matrices():
    """As ZeRO would hand them over after the optimizer is made; the recipe says so before anything is loaded."""
    weight = nn.Parameter(torch.zeros(3, 2))
    optimizer = MuonAdamW([{"params": [weight], "rule": "muon"}])
    piece = nn.Parameter(torch.zeros(6))
    piece.grad = torch.ones(6)
    optimizer.param_groups[0]["params"] = [piece]
    with pytest.raises(RecipeError, match=r"muon needs full matrices, and was handed a tensor of shape \(6,\)"):
        optimizer.step()
    [problem] = Muon().check(recipe(sharding="zero"))
    assert problem.key == ("optimizer", "name") and "fsdp" in problem.hint
    assert not list(Muon().check(recipe(sharding="ddp")))


@pytest.mark.parametrize("freezing", ["head-only", "bitfit"])
def test_muon_needs_a_matrix_that_trains(freezing: str):
    [problem] = Muon().check(recipe(freezing=freezing))
    assert problem.key == ("optimizer", "name") and "adamw" in problem.hint
    assert not list(Muon().check(recipe(freezing="lora")))


def recipe(sharding: str = "none", freezing: str = "full") -> Any:
    """As much of a recipe as is asked for; the properties are those that the built-in strategies declare."""
    engine = SimpleNamespace(id=lambda: sharding, flat=sharding == "zero")
    trains = SimpleNamespace(id=lambda: freezing, trains_matrices=freezing not in ("head-only", "bitfit"))
    return SimpleNamespace(sharding=engine, freezing=trains)


@pytest.mark.parametrize("unfused", [False, True])
def test_adamw_in_muon_is_fused_where_it_can_be(unfused):
    assert Muon().build(context(unfused=unfused)).options["adamw"]["fused"] is (None if unfused else True)
    assert Muon().build(context("meta")).options["adamw"]["fused"] is None


def test_a_closure_is_called_once():
    weight = nn.Parameter(torch.ones(2, 2))
    optimizer = MuonAdamW([{"params": [weight], "rule": "muon"}], lr=0.1)
    calls = []

    def closure() -> Tensor:
        calls.append(1)
        loss = weight.square().sum()
        loss.backward()
        return loss

    assert float(optimizer.step(closure).detach()) == 4.0 and calls == [1]


def test_nesterov_without_momentum_says_what_to_do():
    recipe: Any = None
    [problem] = SGD(momentum=0.0, nesterov=True).check(recipe)
    assert problem.message == "nesterov = true needs a momentum above 0"
    assert problem.key == ("optimizer", "momentum")
    assert "0.9" in problem.hint
    assert not list(SGD(nesterov=True).check(recipe))
    assert not list(SGD(momentum=0.0).check(recipe))
