"""`wise-ft`: the final weights lie between those before and after training: (1 − α)θ₀ + αθ₁.

Wortsman et al. 2022 (arXiv 2109.01903). Some of what was learned is given back for what was forgotten, often more than
a straight exchange of one for the other. `fttool merge` does the same to a finished run, for any α.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal

from typing_extensions import override

from fttool.api import Fraction, Problem, RecipeError, Regularization, Regularizer, RegularizerContext

if TYPE_CHECKING:
    from torch import Tensor

    from fttool.api import Recipe


def interpolate(weights: Iterable[tuple[str, Tensor]], start: Mapping[str, Tensor], alpha: float) -> None:
    """(1 − α)θ₀ + αθ₁ in place, in float32 whatever the weights' format; what `start` lacks stays θ₁."""
    import torch

    with torch.no_grad():
        for name, p in weights:
            if name in start:
                before = start[name].to(p.device, torch.float32)
                p.copy_(before.lerp(p.float(), alpha))


class WiseFT(Regularizer):
    """Mixes the final weights with those that training started from: (1 − α)θ₀ + αθ₁.

    Training itself is left as it is; the evaluation at the end is of the mixture. θ₀ is read again from the model's
    source when it is needed. Weights that the source does not give, such as a new head, stay as they were trained.

    Use it where a model has learned the task and forgotten too much; `fttool merge` tries other α without training
    again. Cost: nothing while training; the model's source is read once more at the end.
    """

    name: Literal["wise-ft"] = "wise-ft"
    alpha: Fraction = 0.5
    """α: 1 is the fine-tuned model, 0 the one before."""

    @property
    @override
    def sets_final_weights(self) -> bool:
        return True

    @override
    def check(self, recipe: Recipe) -> Iterable[Problem]:
        """Refuse adapters: their weights are none of the model's, so there is nothing to mix them with; and a second
        mixing, which would be one of another α.
        """
        if recipe.freezing.adapts:
            yield Problem(
                f"wise-ft mixes the model's own weights, and {recipe.freezing.id()} trains others",
                hint="leave it out; with freezing.merge = true, mix afterwards: fttool merge runs/… --alpha 0.5",
            )

        if next(other for other in recipe.regularizers if isinstance(other, WiseFT)) is not self:
            yield Problem(
                "wise-ft is listed twice, and would mix the mixture", hint="list it once; its alphas multiply"
            )

    @override
    def build(self, ctx: RegularizerContext) -> Regularization:
        """Yield the mixing as the last change of the weights; raises `RecipeError` where nothing that the source gives
        trains.
        """
        if not ctx.trained - ctx.new:
            raise RecipeError(
                "wise-ft mixes pre-trained weights, and none of those that train are",
                hint="leave it out, or let pre-trained weights train: [freezing]",
            )
        return Regularization(final_weights=lambda weights: interpolate(weights, ctx.start(), self.alpha))
