"""`token-accuracy`: how often the likeliest token is the right one."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from typing_extensions import override

from fttool.api import Measure, Metric, MetricContext, Predictions

if TYPE_CHECKING:
    from torch import Tensor


class TokenAccuracy(Metric):
    """Share of learned tokens that are the model's first choice, given all right tokens before them."""

    name: Literal["token-accuracy"] = "token-accuracy"
    greater_is_better: ClassVar[bool] = True

    @override
    def build(self, ctx: MetricContext) -> Measure:
        return Measure(statistics=hits_and_count, value=share)


def hits_and_count(predictions: Predictions) -> Tensor:
    """Right first choices and the number of tokens, float64, shape (2,)."""
    import torch

    hits_N = (predictions.logits_NV.argmax(dim=-1) == predictions.targets_N).double()
    return torch.stack([hits_N.sum(), torch.tensor(hits_N.numel()).to(hits_N)])


def share(total: Tensor) -> float:
    """Hits over tokens, from 0 to 1."""
    hits, tokens = total.tolist()
    return hits / tokens
