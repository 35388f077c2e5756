"""Every freezing mode on every architecture: what trains changes, the rest keeps its bits, and backward stops there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from fttool.api import ALWAYS, Freezing, FreezingContext, LayerRatesContext, Layers, ModelError, TrainableUnit, layers
from fttool.training.groups import Group, freeze_the_rest, let_train, make_groups, optimizer_groups
from fttool_plugins.freezing.bitfit import BitFit
from fttool_plugins.freezing.full import Full
from fttool_plugins.freezing.gradual import Gradual
from fttool_plugins.freezing.lisa import Lisa
from fttool_plugins.freezing.patterns import Patterns
from fttool_plugins.freezing.top_layers import TopLayers
from fttool_plugins.layer_rates.discriminative import Discriminative

from ...architectures import LAYERS, batch, tiny

UPDATES = 9
MODES: dict[str, Freezing] = {
    "full": Full(),
    "top-layers": TopLayers(n=1),
    "top-layers, no head": TopLayers(n=2, final_norm=False, head=False),
    "gradual": Gradual(every=1),
    "gradual, bottom-up": Gradual(every=2, order="bottom-up", embeddings="never"),
    "patterns": Patterns(train=("*.1.*", "*.2.*"), freeze=("*.0.*",)),
    "lisa": Lisa(n=1, every=2),
}
BIASED = ("gpt2", "gpt_neox", "bert", "distilbert")


def built(strategy: Freezing, model: PreTrainedModel) -> list[TrainableUnit]:
    context = FreezingContext(model=model, layers=layers(model), total_steps=UPDATES, steps_per_epoch=3, seed=5)
    return list(strategy.build(context).units)


def uniform(_: str) -> float:
    return 1.0


def groups_of(
    model: PreTrainedModel, units: list[TrainableUnit], rate: Callable[[str], float] = uniform
) -> list[Group]:
    groups = make_groups(dict(model.named_parameters()), units, rate, lr=0.01, weight_decay=0.0, pulls=())
    freeze_the_rest(model, groups)
    return groups


def modules_of(model: PreTrainedModel, parts: Layers) -> list[nn.Module]:
    """The module of each layer: the outermost member of a `ModuleList` that holds the layer's first parameter."""
    lists = [name for name, module in model.named_modules() if isinstance(module, nn.ModuleList)]
    found: list[nn.Module] = []
    for block in parts.blocks:
        prefix = min((one for one in lists if block[0].startswith(f"{one}.")), key=len)
        found.append(model.get_submodule(f"{prefix}.{block[0].removeprefix(f'{prefix}.').partition('.')[0]}"))
    return found


def watched(modules: list[nn.Module]) -> list[bool]:
    """Whether the output of each module needs a gradient, noted anew in each forward pass."""
    needs = [False] * len(modules)

    def watch(place: int) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            hidden = output[0] if isinstance(output, tuple) else output
            needs[place] = hidden.requires_grad

        return hook

    for place, module in enumerate(modules):
        module.register_forward_hook(watch(place))
    return needs


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("mode", [*MODES, "bitfit"])
def test_what_trains_changes_and_the_rest_keeps_its_bits(kind: str, mode: str) -> None:
    """Through core's groups and AdamW, update by update, with gradient, optimizer state and graph looked at."""
    if mode == "bitfit" and kind not in BIASED:
        with pytest.raises(ModelError, match=r"bitfit trains biases, and \w+ has none"):
            built(BitFit(), tiny(kind))
        return
    model = tiny(kind)
    units = built(MODES.get(mode) or BitFit(), model)
    parts, named = layers(model), dict(model.named_parameters())
    groups = groups_of(model, units)
    optimizer = torch.optim.AdamW(optimizer_groups(model, groups), lr=0.01)
    needs = watched(modules_of(model, parts))
    assert len(needs) == LAYERS[kind]
    ever: set[str] = set()
    changing = any(unit.trains_in != ALWAYS for unit in units)
    for update in range(UPDATES if changing else 2):
        before = {name: p.detach().clone() for name, p in named.items()}
        trained = {name for unit in units if any(update in turn for turn in unit.trains_in) for name in unit.parameters}
        ever |= trained
        let_train(model, optimizer, groups, update)
        model(**batch(kind)).loss.backward()

        assert {name for name, p in named.items() if p.grad is not None} == trained
        below = [*parts.embeddings]
        for needed, block in zip(needs, parts.blocks, strict=True):
            below += block
            assert needed == (not trained.isdisjoint(below)), f"update {update}: {block[0]}"

        optimizer.step()
        optimizer.zero_grad()
        assert {name for name, p in named.items() if not torch.equal(p, before[name])} == trained
        assert {name for name, p in named.items() if p in optimizer.state} == ever
    if mode in ("full", "gradual"):
        assert ever == set(named)


@pytest.mark.parametrize("kind", LAYERS)
def test_each_parameter_moves_at_its_layers_rate(kind: str) -> None:
    """Against a twin: plain SGD on each parameter, at lr·d^(layers above it)."""
    model, twin = tiny(kind), tiny(kind)
    parts, decay = layers(model), 0.5
    rate = Discriminative(decay=decay).build(LayerRatesContext(model=model, layers=parts))
    groups = groups_of(model, built(Full(), model), rate)
    assert len({group.lr for group in groups}) == LAYERS[kind] + 1
    optimizer = torch.optim.SGD(optimizer_groups(model, groups), lr=0.01)
    for one in (model, twin):
        one(**batch(kind)).loss.backward()
        one.double()  # weights and gradients: the comparison has no rounding of its own
    optimizer.step()
    above = dict.fromkeys((*parts.final, *parts.head), 0)
    for depth, block in enumerate(reversed(parts.blocks)):
        above |= dict.fromkeys(block, depth)
    above |= dict.fromkeys(parts.embeddings, LAYERS[kind])
    now: Mapping[str, Any] = dict(model.named_parameters())
    for name, p in twin.named_parameters():
        assert p.grad is not None
        with torch.no_grad():
            p -= 0.01 * decay ** above[name] * p.grad
        torch.testing.assert_close(now[name], p, rtol=0, atol=1e-15, msg=name)
