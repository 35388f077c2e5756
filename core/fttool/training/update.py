"""What an update is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fttool.contracts.model import Features
from fttool.contracts.strategy import Strategy
from fttool.contracts.update import Factor, Regularization
from fttool.rows.files.source import fingerprint
from fttool.yielded import check_optimizer

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from fttool.training.groups import Group
    from fttool.training.initial_weights import InitialWeights


@dataclass(frozen=True, kw_only=True)
class Update:
    """What trains, at which rate, pulled towards what."""

    groups: Sequence[Group]
    optimizer: Callable[[list[dict[str, Any]]], torch.optim.Optimizer]
    """Makes one over parameter groups."""
    optimizer_groups: Callable[[], list[dict[str, Any]]]
    """The groups as the optimizer takes them, of the parameters that the model has now."""
    factor: Factor
    regularizations: Sequence[Regularization]
    features: Features | None
    export: Callable[[PreTrainedModel, Path], None] | None
    initial_weights: InitialWeights | None
    """Where the best model may be the one before the first update."""

    def files(self) -> list[dict[str, Any]]:
        """What `lock.json` notes of the files that regularizers read."""
        return [
            {"table": f"regularizers.{index}.{option}", "source": str(path), **fingerprint(path)}
            for index, regularization in enumerate(self.regularizations)
            for option, path in regularization.files.items()
        ]

    def new_optimizer(self, strategy: Strategy) -> torch.optim.Optimizer:
        """The optimizer of `strategy` over the parameters that the model has now; a wrong one is a `PluginError`."""
        groups = self.optimizer_groups()
        given = [{**group, "params": list(group["params"])} for group in groups]
        optimizer = self.optimizer(groups)
        check_optimizer(strategy, optimizer, given)
        return optimizer
