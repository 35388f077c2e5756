"""`entity-recall`: how many of the entities that there are a model finds."""

from __future__ import annotations

from typing import ClassVar, Literal

from typing_extensions import override

from fttool.api import Levels, Measure, Metric, MetricContext
from fttool_plugins.metric.entities import entity_measure, recall


class EntityRecall(Metric):
    """Share of the true entities that are predicted: their kind, their first and their last word.

    As seqeval's default counts them.
    """

    name: Literal["entity-recall"] = "entity-recall"
    level: ClassVar[Levels] = "word"
    greater_is_better: ClassVar[bool] = True

    @override
    def build(self, ctx: MetricContext) -> Measure:
        return entity_measure(ctx, self.name, recall)
