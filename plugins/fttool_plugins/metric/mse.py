"""`mse`: how far off the model's numbers are."""

from __future__ import annotations

from typing import ClassVar, Literal

from typing_extensions import override

from fttool.api import Levels, Measure, Metric, MetricContext
from fttool_plugins.metric.loss import mean, sum_and_count


class MeanSquaredError(Metric):
    """Mean squared error of the numbers that are said, in the square of the numbers' unit: what is learned by."""

    name: Literal["mse"] = "mse"
    level: ClassVar[Levels] = "number"

    @override
    def build(self, ctx: MetricContext) -> Measure:
        return Measure(statistics=sum_and_count, value=mean)
