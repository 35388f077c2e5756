"""`perplexity`: the loss as a number of equally likely tokens."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from typing_extensions import override

from fttool.api import Measure, Metric, MetricContext
from fttool_plugins.metric.loss import mean, sum_and_count

if TYPE_CHECKING:
    from torch import Tensor


class Perplexity(Metric):
    """exp(mean cross-entropy per learned token): how many equally likely tokens the model wavers between."""

    name: Literal["perplexity"] = "perplexity"

    @override
    def build(self, ctx: MetricContext) -> Measure:
        return Measure(statistics=sum_and_count, value=perplexity)


def perplexity(total: Tensor) -> float:
    """Exp of the mean of (Σ nats, tokens); infinite from 709 nats a token on."""
    nats = mean(total)
    return math.exp(nats) if nats < 709 else math.inf
