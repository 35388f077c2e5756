"""`entity-f1`: how many entities are found, and how many of those found are right, in one number."""

from __future__ import annotations

from typing import ClassVar, Literal

from typing_extensions import override

from fttool.api import Levels, Measure, Metric, MetricContext
from fttool_plugins.metric.entities import entity_measure, f1


class EntityF1(Metric):
    """F1 over all entities, from 0 to 1: the harmonic mean of their precision and recall, as seqeval's default has it.

    Comes with a table of precision, recall and F1 for each kind of entity.
    """

    name: Literal["entity-f1"] = "entity-f1"
    level: ClassVar[Levels] = "word"
    greater_is_better: ClassVar[bool] = True

    @override
    def build(self, ctx: MetricContext) -> Measure:
        return entity_measure(ctx, self.name, f1)
