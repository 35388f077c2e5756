"""`acme.ema`: the final model is the moving average of the weights (Polyak and Juditsky 1992)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal

from fttool.api import Fraction, Problem, Regularization, Regularizer, RegularizerContext

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from fttool.api import Recipe


class MovingAverage(Regularizer):
    """Keep an exponential moving average of all weights, and make it the final model.

    m ← decay·m + (1 − decay)·θ after each update, from m = θ₀. Training itself is left as it is. The average takes as
    much memory as the weights.
    """

    name: Literal["acme.ema"] = "acme.ema"
    decay: Fraction = 0.999
    """What is kept of the average per update; 1 / (1 − decay) is the number of updates that it looks back on."""

    def check(self, recipe: Recipe) -> Iterable[Problem]:
        """Refuse sharded weights: a rank would average its own piece only."""
        if recipe.sharding.id() not in ("none", "ddp"):
            hint = 'set sharding = "ddp", or leave acme.ema out'
            yield Problem("acme.ema needs whole weights on each rank", key=("sharding",), hint=hint)

    def build(self, ctx: RegularizerContext) -> Regularization:
        """Yield the average: fed after each update, written into the model at the end."""
        average = Average(ctx.model, self.decay)
        return Regularization(after_update=average, final_weights=average.write)


class Average:
    """The moving average of a model's weights, saved and restored with each checkpoint."""

    def __init__(self, model: PreTrainedModel, decay: float) -> None:
        self.decay = decay
        self.mean = {name: p.detach().clone() for name, p in model.named_parameters()}

    def __call__(self, model: PreTrainedModel, updates: int) -> None:
        """Take in the weights after an update."""
        for name, p in model.named_parameters():
            self.mean[name] = self.mean[name].to(p.device).lerp(p.detach(), 1 - self.decay)

    def write(self, model: PreTrainedModel) -> None:
        """Make the average the model's weights."""
        for name, p in model.named_parameters():
            p.data.copy_(self.mean[name])

    def state_dict(self) -> dict[str, Tensor]:
        """The average by parameter name."""
        return dict(self.mean)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a saved average."""
        self.mean = dict(state)
