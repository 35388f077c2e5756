"""`l2-init`: a penalty on the distance from the weights that training started from.

The convention is λ‖θ − θ₀‖², whose gradient is 2λ(θ − θ₀); the α/2‖θ − θ₀‖² of L2-SP (arXiv 1802.01483) is
the same pull at λ = α/2.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from fttool.api import Problem, Pull, RecipeError, Regularization, Regularizer, RegularizerContext

if TYPE_CHECKING:
    from fttool.api import Recipe


class L2Init(Regularizer):
    """Pulls every weight back to where it started: the penalty λ‖θ − θ₀‖².

    θ₀ is the weight before the first update, held as optimizer state (4 bytes per parameter). The pull comes
    after clipping and is not clipped; the penalty is logged apart from the loss. Weight decay pulls the same
    weights to 0, so leave `optimizer.weight_decay` at 0 beside this.
    """

    name: Literal["l2-init"] = "l2-init"
    strength: Annotated[float, Field(gt=0)]
    """λ in λ‖θ − θ₀‖²; the gradient is 2λ(θ − θ₀)."""
    decoupled: bool = False
    """False: added to the gradient, as in the papers; Adam rescales it. True: θ −= lr·2λ(θ − θ₀) as well."""
    parameters: Annotated[tuple[str, ...], Field(min_length=1)] = ("*",)
    """Which weights are pulled: shell patterns of names, e.g. `["*.mlp.*"]`; default: all that train."""

    def check(self, recipe: Recipe) -> Iterable[Problem]:
        """Refuse 16-bit weights: a pull is smaller than their rounding (0.02 − 1e-5 is 0.02 in bfloat16)."""
        if getattr(recipe.precision, "weights", "float32") != "float32":
            yield Problem(
                "bfloat16 weights cannot be pulled by l2-init: their rounding swallows it",
                key=("precision", "weights"),
                hint='set weights = "float32"; the computation stays in bf16',
            )

    def build(self, ctx: RegularizerContext) -> Regularization:
        """Yield a pull of coefficient 2λ; raises `RecipeError` for a pattern that fits no parameter."""
        names = [name for name, _ in ctx.model.named_parameters()]
        for pattern in self.parameters:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise RecipeError(
                    f"l2-init: no parameter is called '{pattern}'",
                    hint=f"the model's are {names[0]}, {names[len(names) // 2]} …",
                )

        def coefficient(name: str) -> float:
            return 2 * self.strength if any(fnmatchcase(name, one) for one in self.parameters) else 0.0

        return Regularization(pull=Pull(coefficient=coefficient, decoupled=self.decoupled))
