"""`macro-f1`: how well each class is found, the rare ones counting as much as the common ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from typing_extensions import override

from fttool.api import Levels, Measure, Metric, MetricContext
from fttool_plugins.metric.counts import class_counts, class_tables, ratio, split

if TYPE_CHECKING:
    from torch import Tensor


class MacroF1(Metric):
    """The mean over classes of F1 = 2·right / (predicted + true): of precision and recall the harmonic mean.

    A class that neither occurs in the evaluation rows nor is predicted for one has no F1 and does not count; one of
    which no row is found has 0. Comes with a table per class, and the confusion matrix of up to 50 classes.
    """

    name: Literal["macro-f1"] = "macro-f1"
    level: ClassVar[Levels] = ("row", "word")
    greater_is_better: ClassVar[bool] = True

    @override
    def build(self, ctx: MetricContext) -> Measure:
        classes = len(ctx.labels)
        return Measure(
            statistics=class_counts,
            value=lambda total: macro_f1(total, classes),
            details=lambda total: class_tables(total, ctx.labels),
        )


def macro_f1(total: Tensor, classes: int) -> float:
    """The mean F1 of the classes that occur or are predicted, from 0 to 1."""
    right_C, predicted_C, true_C, _ = split(total, classes)
    seen_C = predicted_C + true_C
    scores = [ratio(2 * right, met) for right, met in zip(right_C.tolist(), seen_C.tolist(), strict=True) if met]
    return ratio(sum(scores), len(scores))
