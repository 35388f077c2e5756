"""`accuracy`: how many rows, or words, get their class right."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from typing_extensions import override

from fttool.api import Levels, Measure, Metric, MetricContext, Predictions
from fttool_plugins.metric.counts import predicted_and_true
from fttool_plugins.metric.token_accuracy import share

if TYPE_CHECKING:
    from torch import Tensor


class Accuracy(Metric):
    """Share of rows or words whose class is predicted; where rows may have several, of those with each class right."""

    name: Literal["accuracy"] = "accuracy"
    level: ClassVar[Levels] = ("row", "word")
    greater_is_better: ClassVar[bool] = True

    @override
    def build(self, ctx: MetricContext) -> Measure:
        return Measure(statistics=right_rows_and_count, value=share)


def right_rows_and_count(predictions: Predictions) -> Tensor:
    """Rows with all classes right and the number of rows, float64, shape (2,)."""
    import torch

    predicted_NC, true_NC = predicted_and_true(predictions)
    right_N = (predicted_NC == true_NC).all(-1).double()
    return torch.stack([right_N.sum(), torch.tensor(right_N.numel()).to(right_N)])
