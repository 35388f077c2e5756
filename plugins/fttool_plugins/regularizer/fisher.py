"""How much each weight matters to what a model says: the diagonal of the Fisher information.

F_i = mean over n examples of (∂ log p(y|x) / ∂θ_i)², where log p(y|x) is the sum over the example's labels: its learned
tokens, or its classes. Each example's gradient is squared by itself: the square of a mean over B gradients is about B
times too small, since most of them cancel. True Fisher: y is sampled from the model. Empirical: y are the labels of the
rows, which measures something else where the model is far from them (Kunstner et al. 2019, arXiv 1905.12558).
"""

# torch._foreach_* has an underscore, but it is what torch's own optimizers are made of:
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from fttool.api import ModelError, Predictions

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NORMALISATION = "log-likelihood summed over an example's labels, its squared gradient averaged over examples"


def diagonal_fisher(
    model: PreTrainedModel,
    examples: Iterable[Mapping[str, Tensor]],
    score: Callable[[PreTrainedModel, Mapping[str, Tensor]], Predictions],
    parameters: Mapping[str, Tensor],
    *,
    generator: torch.Generator | None,
) -> tuple[dict[str, Tensor], int]:
    """F of `parameters`, and the number of labels in all examples.

    `examples` are micro-batches of one row each. With a generator, labels are sampled from the model; without one,
    they are the rows' own. The model is in evaluation mode meanwhile; no `.grad` is touched.
    """
    weights = list(parameters.values())
    squares = [torch.zeros_like(weight) for weight in weights]
    count = labels = 0
    was_training = model.training
    model.eval()
    try:
        for example in examples:
            predictions = score(model, example)
            targets_N = predictions.targets_N if generator is None else sampled_labels(predictions, generator)
            loss = surprise(predictions.logits_NV, targets_N)
            gradients = torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True)
            torch._foreach_addcmul_(squares, gradients, gradients)
            count, labels = count + 1, labels + len(targets_N)
    finally:
        model.train(was_training)
    torch._foreach_div_(squares, count)
    named = dict(zip(parameters, squares, strict=True))
    for name, values in named.items():
        if not values.isfinite().all():
            raise ModelError(
                f"the importance of '{name}' is not finite: the model's gradient on a general row is not",
                hint="does the model work? fttool run --dry-run, then look at its loss on these rows",
            )
    return named, labels


def sampled_labels(predictions: Predictions, generator: torch.Generator) -> Tensor:
    """Labels sampled from what the model predicts, in the shape of the targets: one of V each, or V times yes or no."""
    logits_NV = predictions.logits_NV.detach()
    if predictions.targets_N.ndim == 2:
        return torch.bernoulli(logits_NV.sigmoid(), generator=generator)
    return torch.multinomial(logits_NV.softmax(-1), 1, generator=generator).squeeze(1)


def surprise(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    """−log p of the targets in nats, summed over the N labels."""
    if targets_N.ndim == 2:
        return F.binary_cross_entropy_with_logits(logits_NV, targets_N.to(logits_NV), reduction="sum")
    return F.cross_entropy(logits_NV, targets_N, reduction="sum")
