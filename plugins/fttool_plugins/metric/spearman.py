"""`spearman`: how far the model brings rows into the order of their numbers."""

from __future__ import annotations

from typing import ClassVar, Literal

from typing_extensions import override

from fttool.api import Levels, Measure, Metric, MetricContext
from fttool_plugins.metric.correlation import correlation_measure, ranks


class Spearman(Metric):
    """Spearman's ρ of the numbers that are said with those of the rows, from −1 to 1: Pearson's r of their ranks, of
    which equal numbers share the mean. Where all that the model says is one number there is none, which is said.
    """

    name: Literal["spearman"] = "spearman"
    level: ClassVar[Levels] = "number"
    greater_is_better: ClassVar[bool] = True

    @override
    def build(self, ctx: MetricContext) -> Measure:
        return correlation_measure(ranks)
