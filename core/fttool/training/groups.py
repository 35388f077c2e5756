"""Parameter groups: the coarsest partition on which rate, decay, pulls and the updates that train it are constant.

One table answers what trains, at which rate, pulled how strongly and when; the optimizer, `--dry-run` and the log all
read it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fttool.contracts.model import TrainableUnit, Updates
from fttool.contracts.update import Pull
from fttool.errors import PluginError, RecipeError
from fttool.training.shards import reshard


class Pulls(NamedTuple):
    """What pulls at a group, under the names by which the optimizer knows them."""

    pull: float = 0.0
    """Coefficient of the coupled pull towards the start, 0 for none."""
    decoupled_pull: float = 0.0
    zero_pull: float = 0.0
    """Coefficient of the coupled pull towards 0."""
    decoupled_zero_pull: float = 0.0
    importance: bool = False
    """True where each parameter has its own coefficients besides."""
    decoupled_importance: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Parameters that are treated alike."""

    names: tuple[str, ...]
    count: int
    """Numbers in them."""
    lr: float
    """Peak rate."""
    weight_decay: float
    pulls: Pulls
    trains_in: Updates
    """The updates that change them."""
    keys: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What else the optimizer wants to know of them."""

    def trains(self, update: int) -> bool:
        """True where this update (from 0) changes the group."""
        return any(update in stretch for stretch in self.trains_in)

    def trains_before(self, update: int) -> bool:
        """True where an update before this one changes the group."""
        return any(stretch.start < update for stretch in self.trains_in if stretch)


def make_groups(
    parameters: Mapping[str, Tensor],
    units: Sequence[TrainableUnit],
    rate: Callable[[str], float],
    *,
    lr: float,
    weight_decay: float,
    pulls: Sequence[Pull],
    keys: Callable[[str, Tensor], Mapping[str, Any]] = lambda name, parameter: {},
) -> list[Group]:
    """Group the parameters that ever train; `parameters` in the model's order, which decides the groups' order.

    `keys` are more keys of a parameter's group; `lr` among them takes the place of `lr`.
    """
    trains_in = {name: unit.trains_in for unit in units for name in unit.parameters}
    members: dict[tuple[float, float, Pulls, Updates, tuple[tuple[str, Any], ...]], list[str]] = {}
    for name, parameter in parameters.items():
        if name not in trains_in:
            continue
        more = {"lr": lr, **keys(name, parameter)}
        peak = more.pop("lr") * rate(name)
        # a bias may be a matrix: gpt-oss has one for each expert, T5 one for each distance
        decay = weight_decay if parameter.ndim > 1 and "bias" not in name else 0.0
        alike = (peak, decay, _folded(pulls, name), trains_in[name], tuple(sorted(more.items())))
        members.setdefault(alike, []).append(name)
    return [
        Group(
            names=tuple(names),
            count=sum(parameters[name].numel() for name in names),
            lr=rate_of_group,
            weight_decay=decay,
            pulls=folded,
            trains_in=updates,
            keys=dict(more),
        )
        for (rate_of_group, decay, folded, updates, more), names in members.items()
    ]


def _folded(pulls: Sequence[Pull], name: str) -> Pulls:
    """All pulls at one parameter as one strength per kind."""
    coefficients = {(towards, decoupled): 0.0 for towards in ("start", "zero") for decoupled in (False, True)}
    weighted: set[bool] = set()
    for pull in pulls:
        coefficient = pull.coefficient(name)
        if pull.importance is None:
            coefficients[pull.towards, pull.decoupled] += coefficient
        elif coefficient:
            weighted.add(pull.decoupled)
    if len(weighted) > 1:
        raise RecipeError(
            f"two pulls weigh '{name}' by importance, one of them decoupled: they share one importance",
            hint="make both coupled, or both decoupled",
        )
    return Pulls(
        pull=coefficients["start", False],
        decoupled_pull=coefficients["start", True],
        zero_pull=coefficients["zero", False],
        decoupled_zero_pull=coefficients["zero", True],
        importance=False in weighted,
        decoupled_importance=True in weighted,
    )


def folded_importance(pulls: Sequence[Pull], shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """Σ coefficient·F of all pulls that have an F, by parameter; asks each pull for its F, which may take long."""
    total: dict[str, Tensor] = {}
    for pull in pulls:
        if pull.importance is None:
            continue
        for name, importance in pull.importance().items():
            if name in shapes and pull.coefficient(name):
                if importance.shape != shapes[name]:
                    shape, wanted = tuple(importance.shape), tuple(shapes[name])
                    raise PluginError(f"the importance of '{name}' has shape {shape}, the parameter {wanted}")
                weighted = pull.coefficient(name) * importance
                total[name] = total[name] + weighted if name in total else weighted
    return total


def freeze_the_rest(model: nn.Module, groups: Sequence[Group]) -> None:
    """Switch gradients off for every parameter that never trains, on for the others."""
    trained = {name for group in groups for name in group.names}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trained)


def optimizer_groups(model: nn.Module, groups: Sequence[Group], *, reserve: bool = False) -> list[dict[str, Any]]:
    """The groups as torch optimizers take them; keys of pulls only where they say something.

    With `reserve`, groups that wait for their turn have the state of those that train.
    """
    by_name = dict(model.named_parameters())
    return [
        {
            "params": [by_name[name] for name in group.names],
            "lr": group.lr,
            "weight_decay": group.weight_decay,
            **group.keys,
            **{key: value for key, value in group.pulls._asdict().items() if value},
            **({"reserve": True} if reserve else {}),
        }
        for group in groups
    ]


def let_train(model: nn.Module, optimizer: torch.optim.Optimizer, groups: Sequence[Group], update: int) -> None:
    """Let the groups of this update train, and the others wait: without gradients, backward stops above them."""
    waits = {name: not group.trains(update) for group in groups for name in group.names}
    if any(p.requires_grad == waits.get(name) for name, p in model.named_parameters()):
        reshard(model)  # parameters that FSDP2 has left gathered are others, which would go on as they were
    by_name = dict(model.named_parameters())
    for group, entry in zip(groups, optimizer.param_groups, strict=True):
        entry["waits"] = not group.trains(update)
        for parameter in (by_name[name] for name in group.names):
            parameter.requires_grad_(not entry["waits"])
            if entry["waits"]:
                parameter.grad = None
