"""`mixout`: in each forward pass some weights are those that training started from.

w̃ = u + m⊙(w − u)/(1 − p) with m ~ Bernoulli(1 − p), w the weight and u its value before training (Lee, Cho and Kang
2020, arXiv 1909.11299): dropout whose zero is u. Its expectation is w, and its gradient is m/(1 − p); the authors' code
leaves out the 1/(1 − p) there, which makes the gradient 1 − p times the true one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from fttool.api import Problem, RecipeError, Regularization, Regularizer, RegularizerContext
from fttool_plugins.regularizer.pulled import Patterns, named

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from fttool.api import Recipe


class Mixout(Regularizer):
    """Replaces a random share `p` of the weights by those that training started from, anew in each forward pass.

    Mixed are the weights of linear layers that train (`Linear`, and GPT-2's `Conv1D`), not their biases, embeddings or
    a head. Evaluation and the saved model use the trained weights alone. The starting weights take 4 bytes per weight
    that is mixed, and the mixed ones as much while a micro-batch is computed. Masks come from torch's random state,
    which checkpoints hold, so a resumed run draws the same.
    """

    name: Literal["mixout"] = "mixout"
    p: Annotated[float, Field(gt=0, lt=1)] = 0.7
    """Share of weights that are replaced; 0.7 to 0.9 in the paper."""
    mask: Literal["neuron", "weight"] = "neuron"
    """`neuron`: all weights of an input neuron are replaced together, as in the authors' code. `weight`: each by
    itself, which draws a number for every weight and costs more."""
    parameters: Patterns = ("*",)
    """Which weights may be mixed: shell patterns of names; default: those of all linear layers in the backbone."""

    def check(self, recipe: Recipe) -> Iterable[Problem]:
        """Refuse adapters: the weights that they wrap do not train, so there is nothing to mix."""
        if recipe.freezing.id() == "lora":
            yield Problem(
                "mixout mixes trained weights with those before, and lora leaves the model's own as they are",
                hint='leave mixout out, or train the weights themselves: freezing = "full"',
            )

    def build(self, ctx: RegularizerContext) -> Regularization:
        """Yield a change of the linear layers' class; raises `RecipeError` where there are none."""
        from fttool_plugins.regularizer.mixout_layers import linear_weights, mix

        outside = {*ctx.layers.embeddings, *ctx.layers.head}
        chosen = (named(self.parameters, self.name, ctx) & ctx.trained) - ctx.new - outside
        mixed = {name: module for name, module in linear_weights(ctx.model).items() if name in chosen}
        if not mixed:
            raise RecipeError(
                f"mixout: no linear layer of {type(ctx.model).__name__} trains that it could mix",
                hint="let others train, in [freezing], or leave mixout out",
            )

        def modify(model: PreTrainedModel) -> None:
            if mixed.keys() - linear_weights(model).keys():
                raise RecipeError("two mixout fit the same layers", hint="narrow their parameters = […]")
            for module in mixed.values():
                mix(module, self.p, per_weight=self.mask == "weight")

        return Regularization(modify=modify)
