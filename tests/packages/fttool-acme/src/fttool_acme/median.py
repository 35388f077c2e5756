"""`acme.median-loss`: a loss that a few hopeless rows do not spoil."""

from __future__ import annotations

from typing import ClassVar, Literal

from fttool.api import Levels, Measure, Metric, MetricContext


class MedianLoss(Metric):
    """The loss in the middle: as many tokens or rows have a smaller one as a larger one. In the loss's own unit."""

    name: Literal["acme.median-loss"] = "acme.median-loss"
    level: ClassVar[Levels] = None

    def build(self, ctx: MetricContext) -> Measure:
        """Yield all losses, (n, 1), joined, since no sum tells which one is in the middle."""
        return Measure(
            statistics=lambda predictions: predictions.losses_N.double().unsqueeze(1),
            value=lambda losses_N1: float(losses_N1.quantile(0.5)),
            joined=True,
        )
