"""Terms that a task adds to the loss which its rows are learned by, such as a router's load balancing; logged apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fttool.world import World


@dataclass
class Terms:
    """Their shares of updates, by name: each term is the mean over an update's tokens, whatever its micro-batches."""

    _computed: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    """Of the micro-batch that goes forward and back."""
    _unlogged: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    """Of the updates since the last line."""
    _logged_step: int = 0

    def shared(self, terms: Mapping[str, Tensor], share: float | Tensor) -> Tensor | float:
        """What is added to the update's loss, where the micro-batch has this share of its tokens."""
        total: Tensor | float = 0.0
        for name, term in terms.items():
            part = term * share
            self._computed[name] = self._computed.get(name, torch.zeros_like(part)) + part.detach()
            total = total + part
        return total

    def forget(self) -> None:
        """The micro-batch begins again."""
        self._computed.clear()

    def settle(self) -> Tensor | float:
        """The micro-batch is done; returns what all terms have added."""
        for name, part in self._computed.items():
            self._unlogged[name] = self._unlogged.get(name, torch.zeros_like(part)) + part
        total = sum(self._computed.values(), 0.0)
        self._computed.clear()
        return total

    def unlogged(self, world: World) -> dict[str, float]:
        """The sums since the last line, over all processes: each has its share times their number."""
        return {name: float(world.all_reduce(part)) / world.size for name, part in self._unlogged.items()}

    def line(self, step: int, world: World) -> dict[str, float]:
        """Each term's mean over the updates since the last line."""
        updates = max(1, step - self._logged_step)
        means = {name: total / updates for name, total in self.unlogged(world).items()}
        self._unlogged.clear()
        self._logged_step = step
        return means

    def go_on(self, unlogged: Mapping[str, float], logged_step: int, device: torch.device) -> None:
        """As if the run had not stopped since that line."""
        self._unlogged = {name: torch.tensor(total, device=device) for name, total in unlogged.items()}
        self._logged_step = logged_step
