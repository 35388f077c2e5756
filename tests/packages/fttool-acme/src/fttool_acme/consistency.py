"""`acme.r-drop`: two passes with different dropout should say the same (Liang et al. 2021)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from fttool.api import MicroBatch, Predictions, RecipeError, Regularization, Regularizer, RegularizerContext

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


class RDrop(Regularizer):
    """Adds α·½[KL(p₁ ‖ p₂) + KL(p₂ ‖ p₁)] to the loss, p₁ and p₂ being what two forward passes say (arXiv 2106.14448).

    The second pass is made for this alone: the task's loss is that of the first. Cost: an update takes twice as long.
    """

    name: Literal["acme.r-drop"] = "acme.r-drop"
    alpha: Annotated[float, Field(gt=0)] = 1.0
    """α: how much the divergence counts beside the task's loss, both in nats per token; 1 to 5 in the paper."""

    def build(self, ctx: RegularizerContext) -> Regularization:
        """Yield the loss; raises `RecipeError` for a model without dropout, which always says the same."""
        if not has_dropout(ctx.model):
            hint = "leave acme.r-drop out, or begin with a model whose configuration has a dropout above 0"
            raise RecipeError("acme.r-drop compares two passes with dropout, and the model has none", hint=hint)

        def loss(model: PreTrainedModel, batch: MicroBatch, predictions: Predictions) -> Tensor:
            return self.alpha * apart(predictions, ctx.score(model, batch.inputs))

        return Regularization(loss=loss)


def has_dropout(model: Any) -> bool:
    """True where a module drops something, or the configuration says that a function does."""
    drops = [getattr(module, "p", 0) for module in model.modules() if "dropout" in type(module).__name__.lower()]
    said = [value for name, value in model.config.to_dict().items() if name.endswith(("dropout", "pdrop"))]
    return any(isinstance(p, float) and p > 0 for p in [*drops, *said])


def apart(one: Predictions, other: Predictions) -> Tensor:
    """½[KL(p₁ ‖ p₂) + KL(p₂ ‖ p₁)] in nats, the mean over the N predictions."""
    one_NV, other_NV = one.logits_NV.log_softmax(-1), other.logits_NV.log_softmax(-1)
    return 0.5 * ((one_NV.exp() - other_NV.exp()) * (one_NV - other_NV)).sum(-1).mean()
