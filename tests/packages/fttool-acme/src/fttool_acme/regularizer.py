"""`acme.tail-average`: the final model is the mean of the last weights on the way (Izmailov et al. 2018)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from fttool.api import Problem, RecipeError, Regularization, Regularizer, RegularizerContext, to_steps

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from fttool.api import Recipe


class TailAverage(Regularizer):
    """Make the plain mean of the weights after each of the last updates the final model (SWA, arXiv 1803.05407).

    Best under a rate that stays high to the end: the steps scatter around a minimum, and their mean lies in it.
    Training itself is left as it is. The mean is held in float32, 4 bytes per parameter that trains. A run takes
    another length only from a checkpoint before the mean of that length begins.
    """

    name: Literal["acme.tail-average"] = "acme.tail-average"
    last: Annotated[float, Field(gt=0)] = 0.25
    """Share of the run, or updates, at its end that are averaged."""

    def check(self, recipe: Recipe) -> Iterable[Problem]:
        """Refuse what the mean would overwrite, and sharded weights: a rank would average its own piece only."""
        if recipe.sharding.world_size > 1:
            hint = "run it in one process, or leave acme.tail-average out"
            yield Problem("acme.tail-average needs whole weights in one process", key=("sharding",), hint=hint)
        if recipe.evaluation.best is not None:
            message = "evaluation.best makes a checkpoint the final model, and acme.tail-average would overwrite it"
            yield Problem(message, key=("evaluation", "best"), hint="take one of the two out")

    def build(self, ctx: RegularizerContext) -> Regularization:
        """Yield the mean: fed after each update, written into the model at the end."""
        first = ctx.total_steps - to_steps(self.last, ctx.total_steps) + 1
        mean = Mean(ctx.trained, first)
        return Regularization(after_update=mean, final_weights=mean.write)


class Mean:
    """The mean of the weights after update `first` and all after it; saved and restored with each checkpoint."""

    def __init__(self, names: frozenset[str], first: int) -> None:
        self.names, self.first, self.count, self.updates = names, first, 0, 0
        self.mean: dict[str, Tensor] = {}

    def __call__(self, model: PreTrainedModel, updates: int) -> None:
        """Take in the weights after an update: m ← m + (θ − m)/n."""
        import torch

        self.updates = updates
        if updates < self.first:
            return
        self.count += 1
        for name, p in model.named_parameters():
            if name in self.names:
                before = self.mean.get(name, torch.zeros_like(p, dtype=torch.float32))
                self.mean[name] = before.to(p.device).lerp(p.detach().float(), 1 / self.count)

    def write(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Make the mean the final weights; where a run has stopped before the first of them, they stay."""
        import torch

        with torch.no_grad():
            for name, p in weights:
                if name in self.mean:
                    p.copy_(self.mean[name])

    def state_dict(self) -> dict[str, Any]:
        """The mean by parameter name, of how many updates it is, from which on, and how many there were."""
        return {"first": self.first, "count": self.count, "updates": self.updates, "mean": dict(self.mean)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved mean; in a run of another length, only where its own mean has not begun yet."""
        if state["first"] == self.first:
            self.count, self.mean = state["count"], dict(state["mean"])
        elif self.first <= state["updates"]:
            message = f"the mean of a run of this length begins with update {self.first}, and that is over"
            raise RecipeError(message, hint="start from an earlier checkpoint, or keep the length")
        self.updates = state["updates"]
