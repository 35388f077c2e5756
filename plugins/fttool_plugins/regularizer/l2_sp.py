"""`l2-sp`: pre-trained weights are pulled to where they started, those of a new head to zero.

α/2‖w_S − w_S⁰‖² + β/2‖w_new‖², with S what the model's source gives and "new" what it does not (Li, Grandvalet and
Davoine 2018, arXiv 1802.01483; α = 0.1 and β = 0.01 are those of their published code, with SGD). A new head starts
at random, so where it started is nothing to go back to.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field
from typing_extensions import override

from fttool.api import Problem, Pull, RecipeError, Regularization, Regularizer, RegularizerContext
from fttool_plugins.regularizer.pulled import refuse_16_bits

if TYPE_CHECKING:
    from fttool.api import Recipe


class L2SP(Regularizer):
    """Pulls pre-trained weights back to where they started, and new ones to zero: α/2‖w − w⁰‖² + β/2‖w_new‖².

    New are the parameters that the model's source does not give, such as a classifier's head or the matrices of
    an adapter. The head of a causal language model is pre-trained like the rest of it, so `beta` has no effect there
    and this is `l2-init` at strength α/2. w⁰ is held as optimizer state (4 bytes per pre-trained parameter). The pull
    comes after clipping and is not clipped. Leave `optimizer.weight_decay` at 0 beside this.

    Use it as `l2-init`, where a new head should stay small too; on a causal model, which has none, the two are the
    same with α = 2λ. Cost: 4 bytes per parameter that is pulled, and about 1% of an update's time.
    """

    name: Literal["l2-sp"] = "l2-sp"
    alpha: Annotated[float, Field(ge=0)] = 0.1
    """α in α/2‖w − w⁰‖² on pre-trained weights; the gradient is α(w − w⁰)."""
    beta: Annotated[float, Field(ge=0)] = 0.01
    """β in β/2‖w‖² on new weights; the gradient is βw."""
    decoupled: bool = False
    """False: added to the gradient, as in the paper; Adam rescales it. True: w −= lr·α(w − w⁰), and w −= lr·βw."""

    @override
    def check(self, recipe: Recipe) -> Iterable[Problem]:
        """Refuse 16-bit weights, and a penalty of nothing."""
        yield from refuse_16_bits(recipe, self.name)
        if self.alpha == self.beta == 0:
            yield Problem("l2-sp with alpha = 0 and beta = 0 pulls nothing", hint="set alpha = 0.1, or leave it out")

    @override
    def build(self, ctx: RegularizerContext) -> Regularization:
        """Yield a pull towards the start for the weights that the source gives, and one towards zero for the others;
        raises `RecipeError` where neither pulls a weight that trains.
        """
        new = ctx.new

        def to_start(name: str) -> float:
            return 0.0 if name in new else self.alpha

        def to_zero(name: str) -> float:
            return self.beta if name in new else 0.0

        if not any(to_start(name) or to_zero(name) for name in ctx.trained):
            pulled, option = ("new", "alpha = 0.1") if self.alpha == 0 else ("pre-trained", "beta = 0.01")
            raise RecipeError(
                f"l2-sp pulls {pulled} weights alone, and none of those that train are",
                hint=f"set {option}, or let others train: [freezing]",
            )
        return Regularization(
            pulls=[
                Pull(coefficient=to_start, decoupled=self.decoupled),
                Pull(coefficient=to_zero, decoupled=self.decoupled, towards="zero"),
            ]
        )
