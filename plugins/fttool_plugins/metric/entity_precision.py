"""`entity-precision`: how many of the entities that a model finds are right."""

from __future__ import annotations

from typing import ClassVar, Literal

from typing_extensions import override

from fttool.api import Levels, Measure, Metric, MetricContext
from fttool_plugins.metric.entities import entity_measure, precision


class EntityPrecision(Metric):
    """Share of the predicted entities that are right: their kind, their first and their last word.

    As seqeval's default counts them.
    """

    name: Literal["entity-precision"] = "entity-precision"
    level: ClassVar[Levels] = "word"
    greater_is_better: ClassVar[bool] = True

    @override
    def build(self, ctx: MetricContext) -> Measure:
        return entity_measure(ctx, self.name, precision)
