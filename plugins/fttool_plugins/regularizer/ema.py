"""`ema`: the final model is the exponential moving average of the weights on the way (Polyak and Juditsky 1992).

m ← d_n·m + (1 − d_n)·θ after each update, from m = θ after the first that counts; d_n = min(decay, (1 + n)/(10 + n))
with n the updates taken in before, so that a short run does not end near its beginning (the warmup is TensorFlow's).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import takewhile
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field
from typing_extensions import override

from fttool.api import Problem, RecipeError, Regularization, Regularizer, RegularizerContext, ShareOrSteps, to_steps

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from fttool.api import Recipe


def decay_of(n: int, *, decay: float, warmup: bool) -> float:
    """What is kept of the average when weights are taken in after n others."""
    return min(decay, (1 + n) / (10 + n)) if warmup else decay


class EMA(Regularizer):
    """Makes the moving average of the weights the final model; training itself is left as it is.

    The average is held in float32 (4 bytes per parameter that trains) and saved with each checkpoint. An update that
    loss scaling skips is not taken in. Evaluations during the run are of the weights that train; the one at the end is
    of the average. With `start` as a share, a run takes another length only from a checkpoint before the average of
    that length begins.

    Use it with a constant rate, or where evaluations jump from one to the next. Cost: 4 bytes per parameter, and
    about 2% of an update's time.
    """

    name: Literal["ema"] = "ema"
    decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """What is kept of the average per update: it looks back on about 1/(1 − decay) updates."""
    warmup: bool = True
    """True: early on less is kept, (1 + n)/(10 + n) after n updates."""
    start: ShareOrSteps = 0
    """Share of the run, or updates, after which averaging begins."""

    @property
    @override
    def watches_weights(self) -> bool:
        return True

    @property
    @override
    def sets_final_weights(self) -> bool:
        return True

    @override
    def check(self, recipe: Recipe) -> Iterable[Problem]:
        """Refuse what the average would silently overwrite, and a start that the run does not reach."""
        if recipe.evaluation.best is not None:
            yield Problem(
                "evaluation.best makes a checkpoint the final model, and ema would put its average there",
                hint="take one of the two out",
                key=("evaluation", "best"),
            )
        above = takewhile(lambda other: other is not self, recipe.regularizers)
        if any(other.sets_final_weights for other in above):
            yield Problem("ema overwrites the final weights of those listed above it", hint="list it first, and once")
        if recipe.run.max_steps is not None:
            yield from self._never(recipe.run.max_steps)

    @override
    def build(self, ctx: RegularizerContext) -> Regularization:
        never = list(self._never(ctx.total_steps))
        if never:
            raise RecipeError(never)
        first = self._first(ctx.total_steps)
        average = Average(ctx.trained, decay=self.decay, warmup=self.warmup, first=first)
        return Regularization(after_update=average, final_weights=average.write)

    def _first(self, total_steps: int) -> int:
        """The update whose weights are the first that the average takes in."""
        return max(1, to_steps(self.start, total_steps))

    def _never(self, total_steps: int) -> Iterable[Problem]:
        """A start that a run of this length does not reach."""
        first = self._first(total_steps)
        if first > total_steps:
            yield Problem(
                f"ema starts after {first} updates, the run has {total_steps}", hint="lower start, e.g. to 0.5"
            )


class Average:
    """The moving average of a model's weights, saved and restored with each checkpoint."""

    def __init__(self, names: frozenset[str], *, decay: float, warmup: bool, first: int) -> None:
        self.names, self.decay, self.warmup, self.first = names, decay, warmup, first
        self.taken_in = self.updates = 0
        self.mean: dict[str, Tensor] = {}

    def __call__(self, model: PreTrainedModel, updates: int) -> None:
        """Take in the weights after an update."""
        import torch

        from fttool.api import sharded_like

        self.updates = updates
        if updates < self.first:
            return
        weights = {name: p.detach() for name, p in model.named_parameters() if name in self.names}
        if not self.mean:
            self.mean = {name: p.to(torch.float32, copy=True) for name, p in weights.items()}
        else:
            decay = decay_of(self.taken_in, decay=self.decay, warmup=self.warmup)
            for name, p in weights.items():
                self.mean[name] = sharded_like(self.mean[name], p.float()).lerp_(p.float(), 1 - decay)
        self.taken_in += 1

    def write(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Make the average the final weights; where there is none yet, they stay."""
        import torch

        from fttool.api import sharded_like

        with torch.no_grad():
            for name, p in weights:
                if name in self.mean:
                    p.copy_(sharded_like(self.mean[name], p))

    def state_dict(self) -> dict[str, Any]:
        """The average by parameter name, of how many updates it is, from which on, and how many there were."""
        state = {"first": self.first, "updates": self.updates, "taken_in": self.taken_in}
        return {**state, "mean": dict(self.mean)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved average; in a run of another length, only where this one's has not begun yet."""
        if state["first"] == self.first:
            self.taken_in, self.mean = state["taken_in"], dict(state["mean"])
        elif self.first <= state["updates"]:
            raise RecipeError(
                f"ema would have begun after update {self.first} in a run of this length, and there were "
                f"{state['updates']} before the checkpoint, averaged from update {state['first']} on",
                hint="ema's start is a share of the run: start from an earlier checkpoint, or keep the length",
            )
        self.updates = state["updates"]
