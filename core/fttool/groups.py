"""Parameter groups: the coarsest partition on which rate, decay, pulls and thaw step are constant.

One table answers what trains, at which rate, pulled how strongly and from when on; the optimizer, `--dry-run` and the
log all read it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from fttool.families import Pull, ThawUnit


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Parameters that are treated alike."""

    names: tuple[str, ...]
    count: int
    """Numbers in them."""
    lr: float
    """Peak rate."""
    weight_decay: float
    pull: float
    """Coefficient of the coupled pull, 0 for none."""
    decoupled_pull: float
    thaws_at: int
    """First update that changes them."""


def make_groups(
    parameters: Mapping[str, Tensor],
    units: Sequence[ThawUnit],
    rate: Callable[[str], float],
    *,
    lr: float,
    weight_decay: float,
    pulls: Sequence[Pull],
) -> list[Group]:
    """Group the parameters that ever train; `parameters` in the model's order, which decides the groups' order."""
    thaws = {name: unit.thaws_at for unit in units for name in unit.parameters}
    members: dict[tuple[float, float, float, float, int], list[str]] = {}
    for name, parameter in parameters.items():
        if name not in thaws:
            continue
        key = (
            lr * rate(name),
            weight_decay if parameter.ndim > 1 else 0.0,
            sum(pull.coefficient(name) for pull in pulls if not pull.decoupled),
            sum(pull.coefficient(name) for pull in pulls if pull.decoupled),
            thaws[name],
        )
        members.setdefault(key, []).append(name)
    return [
        Group(
            names=tuple(names),
            count=sum(parameters[name].numel() for name in names),
            lr=key[0],
            weight_decay=key[1],
            pull=key[2],
            decoupled_pull=key[3],
            thaws_at=key[4],
        )
        for key, names in members.items()
    ]


def freeze_the_rest(model: nn.Module, groups: Sequence[Group]) -> None:
    """Switch gradients off for every parameter that never trains, on for the others."""
    trained = {name for group in groups for name in group.names}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trained)


def optimizer_groups(model: nn.Module, groups: Sequence[Group]) -> list[dict[str, Any]]:
    """The groups as torch optimizers take them; pull and thaw keys only where they say something."""
    by_name = dict(model.named_parameters())
    made: list[dict[str, Any]] = []
    for group in groups:
        entry: dict[str, Any] = {
            "params": [by_name[name] for name in group.names],
            "lr": group.lr,
            "weight_decay": group.weight_decay,
        }
        if group.pull:
            entry["pull"] = group.pull
        if group.decoupled_pull:
            entry["decoupled_pull"] = group.decoupled_pull
        if group.thaws_at:
            entry["thaws_at"] = group.thaws_at
        made.append(entry)
    return made
