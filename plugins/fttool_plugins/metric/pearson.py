"""`pearson`: how near the model's predictions are to a straight line over the rows' numbers."""

from __future__ import annotations

from typing import ClassVar, Literal

from typing_extensions import override

from fttool.api import Levels, Measure, Metric, MetricContext
from fttool_plugins.metric.correlation import correlation_measure


class Pearson(Metric):
    """Pearson's r of the numbers that are said with those of the rows, from −1 to 1.

    Where all that the model says is one number there is none, which is said.
    """

    name: Literal["pearson"] = "pearson"
    level: ClassVar[Levels] = "number"
    greater_is_better: ClassVar[bool] = True

    @override
    def build(self, ctx: MetricContext) -> Measure:
        return correlation_measure()
