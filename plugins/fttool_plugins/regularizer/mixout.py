"""`mixout`: in each forward pass some weights are those that training started from.

w̃ = u + m⊙(w − u)/(1 − p) with m ~ Bernoulli(1 − p), w the weight and u its value before training (Lee, Cho and Kang
2020, arXiv 1909.11299): dropout whose zero is u. Its expectation is w, and its gradient is m/(1 − p); the authors' code
leaves out the 1/(1 − p) there, which makes the gradient 1 − p times the true one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field
from typing_extensions import override

from fttool.api import Problem, RecipeError, Regularization, Regularizer, RegularizerContext
from fttool_plugins.regularizer.pulled import Patterns, named

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from fttool.api import Recipe

TWICE = "two mixout fit the same layers"


class Mixout(Regularizer):
    """Replaces a random share `p` of the weights by those that training started from, anew in each forward pass.

    Mixed are the weights of linear layers that train (`Linear`, and GPT-2's `Conv1D`), not their biases, embeddings or
    a head, of which all counts that stands between the last layer and the classes, such as ModernBERT's `head.dense`.
    Experts that an architecture holds in one tensor, and the router that chooses among them, are not linear layers and
    are not mixed; where that leaves out more than half of the matrices' weights, as in Mixtral, `parameters` must say
    that it is meant. Evaluation and the saved model use the trained weights alone. Masks come from torch's random
    state, which checkpoints hold, so a resumed run draws the same.

    Use it for few rows and large models, where runs differ much by their seed. Cost: 4 bytes per weight that is
    mixed, as much again while a micro-batch is computed, and about 5% of an update's time.
    """

    name: Literal["mixout"] = "mixout"
    p: Annotated[float, Field(gt=0, lt=1)] = 0.7
    """Share of weights that are replaced; 0.7 to 0.9 in the paper."""
    mask: Literal["neuron", "weight"] = "neuron"
    """`neuron`: all weights of an input neuron are replaced together, as in the authors' code. `weight`: each by
    itself, which draws a number for every weight and costs more."""
    parameters: Patterns = ("*",)
    """Which weights may be mixed: shell patterns of names; default: those of all linear layers in the backbone."""

    @override
    def check(self, recipe: Recipe) -> Iterable[Problem]:
        """Refuse what leaves no layer to train that could be mixed, and two that would mix the same layers."""
        if recipe.freezing.adapts:
            adapter = recipe.freezing.id()
            yield Problem(
                f"mixout mixes trained weights with those before, and {adapter} leaves the model's own as they are",
                hint='leave mixout out, or train the weights themselves: freezing = "full"',
            )
        if not recipe.freezing.trains_matrices:
            yield Problem(
                f"mixout mixes linear layers of the backbone, and {recipe.freezing.id()} trains none of them",
                hint='leave mixout out, or train some of them: freezing = {name = "top-layers", n = 2}',
            )
        others = [other for other in recipe.regularizers if isinstance(other, Mixout)]
        if others[-1] is self and len(others) > 1 and any("*" in other.parameters for other in others):
            yield Problem(TWICE, hint="put it once, or narrow their parameters = […]")

    @override
    def build(self, ctx: RegularizerContext) -> Regularization:
        """Yield a change of the linear layers' class; raises `RecipeError` where there are none, and where they hold
        less than half of the weights of the matrices that train.
        """
        from fttool_plugins.regularizer.mixout_layers import linear_weights, mix

        outside = {*ctx.layers.embeddings, *ctx.layers.head}
        chosen = (named(self.parameters, self.name, ctx) & ctx.trained) - ctx.new - outside
        mixed = {name: module for name, module in linear_weights(ctx.model).items() if name in chosen}
        if not mixed:
            raise RecipeError(
                f"mixout: no linear layer of {type(ctx.model).__name__} trains that it could mix",
                hint="let others train, in [freezing], or leave mixout out",
            )
        matrices = {name: p.numel() for name, p in ctx.model.named_parameters() if name in chosen and p.ndim > 1}
        share = sum(matrices[name] for name in mixed) / sum(matrices.values())
        if share < 0.5:
            first = max(matrices.keys() - mixed.keys(), key=lambda name: matrices[name])
            linear = sorted({"*." + ".".join(name.split(".")[-2:]) for name in mixed})
            raise RecipeError(
                f"mixout can mix {share:.0%} of the weights of matrices that train; the rest, such as '{first}', is in "
                "no linear layer",
                hint=f"leave mixout out, or mix these alone: parameters = {json.dumps(linear)}",
            )

        def modify(model: PreTrainedModel) -> None:
            if mixed.keys() - linear_weights(model).keys():
                raise RecipeError(TWICE, hint="narrow their parameters = […]")
            for module in mixed.values():
                mix(module, self.p, per_weight=self.mask == "weight")

        return Regularization(modify=modify)
