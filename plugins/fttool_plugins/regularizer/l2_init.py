"""`l2-init`: a penalty on the distance from the weights that training started from.

The convention is λ‖θ − θ₀‖², whose gradient is 2λ(θ − θ₀); the α/2‖θ − θ₀‖² of L2-SP (arXiv 1802.01483) is
the same pull at λ = α/2.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field
from typing_extensions import override

from fttool.api import Problem, Pull, RecipeError, Regularization, Regularizer, RegularizerContext
from fttool_plugins.regularizer.pulled import Patterns, named, refuse_16_bits

if TYPE_CHECKING:
    from fttool.api import Recipe


class L2Init(Regularizer):
    """Pulls every weight back to where it started: the penalty λ‖θ − θ₀‖².

    θ₀ is the weight before the first update, held as optimizer state (4 bytes per parameter). The pull comes
    after clipping and is not clipped; the penalty is logged apart from the loss. Weight decay pulls the same
    weights to 0, so leave `optimizer.weight_decay` at 0 beside this.

    Use it decoupled as the first thing against forgetting where there are no general rows. Cost: 4 bytes per
    parameter that is pulled, and about 1% of an update's time.
    """

    name: Literal["l2-init"] = "l2-init"
    strength: Annotated[float, Field(gt=0)]
    """λ in λ‖θ − θ₀‖²; the gradient is 2λ(θ − θ₀)."""
    decoupled: bool = False
    """False: added to the gradient, as in the papers; Adam rescales it. True: θ −= lr·2λ(θ − θ₀) as well."""
    parameters: Patterns = ("*",)
    """Which weights are pulled: shell patterns of names, e.g. `["*.mlp.*"]`; default: all that train."""

    @override
    def check(self, recipe: Recipe) -> Iterable[Problem]:
        return refuse_16_bits(recipe, self.name)

    @override
    def build(self, ctx: RegularizerContext) -> Regularization:
        """Yield a pull of coefficient 2λ; raises `RecipeError` for a pattern that fits no parameter, and for patterns
        that fit none that trains.
        """
        pulled = named(self.parameters, self.name, ctx) & ctx.trained
        if not pulled:
            raise RecipeError(
                "l2-init pulls weights that train, and none of those that its parameters name do",
                hint="let others train: [freezing], or name others: parameters = […]",
            )

        def coefficient(name: str) -> float:
            return 2 * self.strength if name in pulled else 0.0

        return Regularization(pulls=[Pull(coefficient=coefficient, decoupled=self.decoupled)])
