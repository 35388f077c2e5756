"""One torch optimizer of two rules: each group says by its `rule` whether torch's Muon or torch's AdamW updates it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import torch
from torch.optim import AdamW, Muon, Optimizer

from fttool.api import RecipeError
from fttool_plugins.optimizer.gathered import shared, step_gathered

RULES: Mapping[str, type[Muon] | type[AdamW]] = {"muon": Muon, "adamw": AdamW}


class MuonAdamW(Optimizer):
    """Muon over the groups with `rule` muon, AdamW over those with `rule` adamw.

    A group with `transposed` has matrices of inputs × outputs. Both are torch's own. They are lent the groups and the
    state for each step, so that everything stands in this one's `param_groups` and `state`, where schedules,
    checkpoints and pulls look for it. `muon` and `adamw` are options of the two; the rest has torch's defaults.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        rule: Literal["muon", "adamw"] = "adamw",
        *,
        muon: Mapping[str, Any] | None = None,
        adamw: Mapping[str, Any] | None = None,
    ) -> None:
        self._options = {"muon": dict(muon or {}), "adamw": dict(adamw or {})}
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "rule": rule})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group with all options of its rule, as torch's own class fills them in."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        own = RULES[group["rule"]]([dict(group)], **self._options[group["rule"]])
        for key, value in own.param_groups[0].items():
            group.setdefault(key, value)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of both kinds of groups."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for rule, optimizer_class in RULES.items():
            groups = [dict(group) for group in self.param_groups if group["rule"] == rule]
            if rule == "muon":
                _refuse_pieces(groups)
                groups = list(_oriented(groups))
            if groups:
                own = optimizer_class(groups)
                own.state = self.state
                if rule == "muon" and shared(groups):
                    step_gathered(own, own.step)
                else:
                    own.step()
        return loss


def _oriented(groups: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Groups of which torch's Muon makes the right step: it takes a transposed matrix's inputs for its outputs.

    √max(1, A/B) is that of outputs A and inputs B times √(B/A) where the two are exchanged; the other rule is the same
    for both. Decay goes by the rate too, and stays what it was.
    """
    for group in groups:
        if not group.get("transposed") or group["adjust_lr_fn"] != "original":
            yield group
            continue
        for p in group["params"]:
            inputs, outputs = p.shape
            wider = math.sqrt(outputs / inputs)
            rates = {"lr": group["lr"] * wider, "weight_decay": group["weight_decay"] / wider}
            yield {**group, **rates, "params": [p]}


def _refuse_pieces(groups: list[dict[str, Any]]) -> None:
    flat = next((p for group in groups for p in group["params"] if p.ndim != 2), None)
    if flat is not None:
        message = f"muon needs full matrices, and was handed a tensor of shape {tuple(flat.shape)}"
        raise RecipeError(message, hint='use optimizer = "adamw" with this sharding')
