"""What the tests of regularizers share: a run over core's groups and optimizer, and a naive twin of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from fttool.api import ALWAYS, RegularizerContext, TrainableUnit, Updates
from fttool.testing import regularizer_context, tiny_batch, tiny_model, tiny_score
from fttool.testing.tiny import tiny_encoded
from fttool.training.groups import folded_importance, let_train, make_groups, optimizer_groups
from fttool.training.pulls import anchored, pull_value, set_importance

Penalty = Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], Tensor]
"""(weights, weights at the start) → the penalty, as the paper has it."""

NEW = frozenset({"lm_head.weight"})


@dataclass
class Twins:
    """The same training twice: through core with strategies, and by hand with the penalty's autograd gradient."""

    folder: Path
    optimizer: Callable[..., torch.optim.Optimizer]
    dtype: torch.dtype = torch.float64
    pieces: int = 2
    max_norm: float = 0.5
    later: frozenset[str] = frozenset()
    """Parameters that train from update 2 on only."""
    changes: dict[str, Any] = field(default_factory=dict[str, Any])
    """Of the context."""

    def model(self) -> PreTrainedModel:
        return tiny_model().to(self.dtype)

    def context(self, model: PreTrainedModel) -> RegularizerContext:
        return regularizer_context(model, self.folder, **{"new": NEW, **self.changes})

    def units(self, model: PreTrainedModel) -> list[TrainableUnit]:
        names = frozenset(name for name, _ in model.named_parameters())
        late: Updates = (range(2, 99),)
        return [TrainableUnit(parameters=names - self.later), TrainableUnit(parameters=self.later, trains_in=late)]

    def gradient(
        self, model: PreTrainedModel, update: int, scale: Callable[[Tensor], Tensor] = lambda one: one
    ) -> None:
        """Of an update's micro-batches, accumulated over their labels."""
        rows = tiny_encoded()
        batches = [tiny_batch([rows[(update + piece) % 3]]) for piece in range(self.pieces)]
        labels = sum(int((batch["labels"] != -100).sum()) for batch in batches)
        for batch in batches:
            scale(tiny_score(model, batch).losses_N.sum() / labels).backward()

    def ours(
        self, strategies: Sequence[Any], updates: int, overflows: Sequence[int] | None = None
    ) -> tuple[dict[str, Tensor], float]:
        """Weights and logged penalty after training through core; with loss scaling where `overflows` names updates
        whose gradient is infinite.
        """
        model = self.model()
        context = self.context(model)
        pulls = [pull for one in strategies for pull in one.build(context).pulls]
        parameters = dict(model.named_parameters())
        groups = make_groups(parameters, self.units(model), lambda _: 1.0, lr=0.01, weight_decay=0.0, pulls=pulls)
        optimizer: Any = anchored(self.optimizer)(optimizer_groups(model, groups), lr=0.01)  # type: ignore[arg-type]
        importance = folded_importance(pulls, {name: p.shape for name, p in parameters.items()})
        set_importance(optimizer, {parameters[name]: values for name, values in importance.items()})
        scaler = torch.amp.GradScaler("cpu", init_scale=256.0, enabled=overflows is not None)
        for update in range(updates):
            if any(group.trains_in != ALWAYS for group in groups):
                let_train(model, optimizer, groups, update)
            self.gradient(model, update, scaler.scale)
            if update in (overflows or ()):
                next(p for p in parameters.values() if p.grad is not None).grad.fill_(torch.inf)  # type: ignore[union-attr]
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), self.max_norm)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
        return {name: p.detach() for name, p in parameters.items()}, pull_value(optimizer)

    def twin(self, penalty: Penalty, decoupled: bool, updates: Sequence[int]) -> tuple[dict[str, Tensor], float]:
        """The plain loop: the clipped gradient of the loss, and that of the penalty beside it."""
        model = self.model()
        parameters = dict(model.named_parameters())
        start = {name: p.detach().clone() for name, p in parameters.items()}
        optimizer = self.optimizer([{"params": list(parameters.values()), "weight_decay": 0.0}], lr=0.01)
        for update in updates:
            for name, p in parameters.items():
                p.requires_grad_(update >= 2 or name not in self.later)
            self.gradient(model, update)
            nn.utils.clip_grad_norm_(model.parameters(), self.max_norm)
            training = {name: p for name, p in parameters.items() if p.requires_grad}
            gradients = torch.autograd.grad(penalty(training, start), list(training.values()), allow_unused=True)
            for p, gradient in zip(training.values(), gradients, strict=True):
                if gradient is None:
                    continue
                if decoupled:
                    p.data -= 0.01 * gradient
                else:
                    p.grad += gradient
            optimizer.step()
            optimizer.zero_grad()
        found = {name: p.detach() for name, p in parameters.items()}
        return found, float(penalty(found, start))


@pytest.fixture
def twins(tmp_path: Path) -> Twins:
    return Twins(folder=tmp_path, optimizer=torch.optim.AdamW)
