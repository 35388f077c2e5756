"""Parameter groups: what is treated alike, and what trains in which update."""

import sys

import pytest
import torch
from torch import nn

from fttool.contracts.model import ALWAYS, TrainableUnit, from_update
from fttool.contracts.update import Pull
from fttool.errors import PluginError, RecipeError
from fttool.training.groups import Pulls, folded_importance, let_train, make_groups, optimizer_groups
from fttool.training.pulls import anchored


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def groups_of(model, *units, pulls=(), rate=lambda name: 1.0):
    parameters = dict(model.named_parameters())
    return make_groups(parameters, units, rate, lr=0.1, weight_decay=0.5, pulls=pulls)


def all_of(model) -> TrainableUnit:
    return TrainableUnit(parameters=frozenset(name for name, _ in model.named_parameters()))


def test_matrices_decay_and_vectors_do_not():
    [matrices, vectors] = groups_of(network(), all_of(network()))
    assert (matrices.names, matrices.weight_decay) == (("0.weight", "2.weight"), 0.5)
    assert (vectors.names, vectors.weight_decay) == (("0.bias", "2.bias"), 0.0)
    assert matrices.count == 20
    assert matrices.trains_in == vectors.trains_in == ALWAYS


def test_groups_are_split_only_where_something_differs():
    model = network()
    units = [
        TrainableUnit(parameters=frozenset({"0.weight"}), trains_in=from_update(2)),
        TrainableUnit(parameters=frozenset({"2.weight", "2.bias"})),
    ]
    pulls = [
        Pull(coefficient=lambda name: 0.5),
        Pull(coefficient=lambda name: 0.25, decoupled=True),
        Pull(coefficient=lambda name: 2.0 * name.startswith("2"), towards="zero"),
        Pull(coefficient=lambda name: float(name == "2.weight"), importance=dict),
    ]
    found = {g.names: g for g in groups_of(model, *units, pulls=pulls, rate=lambda n: 0.5 if n[0] == "0" else 1.0)}
    assert set(found) == {("0.weight",), ("2.weight",), ("2.bias",)}
    assert found["0.weight",].pulls == Pulls(pull=0.5, decoupled_pull=0.25)
    assert found["2.bias",].pulls == Pulls(pull=0.5, decoupled_pull=0.25, zero_pull=2.0)
    assert found["2.weight",].pulls == Pulls(pull=0.5, decoupled_pull=0.25, zero_pull=2.0, importance=True)
    assert found["0.weight",].lr == 0.05
    entry = optimizer_groups(model, [found["2.bias",]])[0]
    assert {key: value for key, value in entry.items() if key != "params"} == {
        "lr": 0.1,
        "weight_decay": 0.0,
        "pull": 0.5,
        "decoupled_pull": 0.25,
        "zero_pull": 2.0,
    }


def test_what_the_optimizer_wants_to_know_splits_groups_and_may_set_their_rate():
    """`lr` among the keys takes the place of the recipe's, and the layer's factor still holds."""
    model = network()

    def keys(name, parameter):
        return {"rule": "matrix", "order": 1} if parameter.ndim == 2 else {"rule": "vector", "lr": 0.3}

    parameters, half = dict(model.named_parameters()), lambda name: 0.5 if name[0] == "0" else 1.0
    found = make_groups(parameters, [all_of(model)], half, lr=0.1, weight_decay=0.0, pulls=(), keys=keys)
    assert [(group.names, group.lr, dict(group.keys)) for group in found] == [
        (("0.weight",), 0.05, {"rule": "matrix", "order": 1}),
        (("0.bias",), 0.15, {"rule": "vector"}),
        (("2.weight",), 0.1, {"rule": "matrix", "order": 1}),
        (("2.bias",), 0.3, {"rule": "vector"}),
    ]
    entries = optimizer_groups(model, found)
    assert [entry["rule"] for entry in entries] == ["matrix", "vector"] * 2
    assert entries[1]["lr"] == 0.15


def test_one_parameter_has_one_importance():
    pulls = [Pull(coefficient=lambda _: 1.0, importance=dict, decoupled=one) for one in (False, True)]
    with pytest.raises(RecipeError, match=r"two pulls weigh '0\.weight' by importance, one of them decoupled"):
        groups_of(network(), all_of(network()), pulls=pulls)


def test_importance_of_several_pulls_adds_up_by_their_coefficients():
    one, two = torch.ones(4, 3), torch.full((4, 3), 10.0)
    pulls = [
        Pull(coefficient=lambda _: 2.0, importance=lambda: {"0.weight": one, "gone": one}),
        Pull(coefficient=lambda name: 0.5 if name == "0.weight" else 0.0, importance=lambda: {"0.weight": two}),
        Pull(coefficient=lambda _: 7.0),
    ]
    shapes = {name: p.shape for name, p in network().named_parameters()}
    found = folded_importance(pulls, shapes)
    assert set(found) == {"0.weight"}
    torch.testing.assert_close(found["0.weight"], torch.full((4, 3), 7.0))


def test_an_importance_of_another_shape_is_refused():
    pull = Pull(coefficient=lambda _: 1.0, importance=lambda: {"0.weight": torch.ones(3, 4)})
    with pytest.raises(PluginError, match=r"'0\.weight' has shape \(3, 4\), the parameter \(4, 3\)"):
        folded_importance([pull], {"0.weight": torch.Size([4, 3])})


def test_backward_stops_above_what_waits_and_its_gradient_counts_in_no_norm():
    model = network()
    late = TrainableUnit(parameters=frozenset({"0.weight", "0.bias"}), trains_in=(range(1, 2), range(3, sys.maxsize)))
    groups = groups_of(model, late, TrainableUnit(parameters=frozenset({"2.weight", "2.bias"})))
    optimizer = anchored(torch.optim.AdamW)(optimizer_groups(model, groups))
    trained = []
    for update in range(5):
        before = model[0].weight.detach().clone()
        let_train(model, optimizer, groups, update)
        hidden = model[0](torch.ones(1, 3))
        assert hidden.requires_grad == (update in (1, 3, 4))
        model[2](hidden.tanh()).square().sum().backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1e9)
        own = [p.grad.norm() for group in groups if group.trains(update) for p in named(model, group)]
        torch.testing.assert_close(norm, torch.stack(own).norm())
        optimizer.step()
        if not torch.equal(before, model[0].weight):
            trained.append(update)
    assert trained == [1, 3, 4]


def named(model, group):
    by_name = dict(model.named_parameters())
    return [by_name[name] for name in group.names]
