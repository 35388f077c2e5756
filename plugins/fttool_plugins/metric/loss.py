"""`loss`: mean cross-entropy per learned token, or per row."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from typing_extensions import override

from fttool.api import Levels, Measure, Metric, MetricContext, Predictions

if TYPE_CHECKING:
    from torch import Tensor


class Loss(Metric):
    """Mean cross-entropy per learned token, in nats: over all tokens, not a mean of the batches' means. Where classes
    are learned, per row.
    """

    name: Literal["loss"] = "loss"
    level: ClassVar[Levels] = None

    @override
    def build(self, ctx: MetricContext) -> Measure:
        return Measure(statistics=sum_and_count, value=mean)


def sum_and_count(predictions: Predictions) -> Tensor:
    """Σ loss and the number of tokens or rows, float64, shape (2,)."""
    import torch

    losses_N = predictions.losses_N.double()
    return torch.stack([losses_N.sum(), torch.tensor(losses_N.numel()).to(losses_N)])


def mean(total: Tensor) -> float:
    """Nats per token or row."""
    nats, count = total.tolist()
    return nats / count
