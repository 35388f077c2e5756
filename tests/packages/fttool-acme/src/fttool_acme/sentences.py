"""`acme.whole-sentences`: a stricter accuracy."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from fttool.api import Levels, Measure, Metric, MetricContext, Predictions

if TYPE_CHECKING:
    from torch import Tensor


class WholeSentences(Metric):
    """Share of the sentences of which every word has its right tag, between 0 and 1."""

    name: Literal["acme.whole-sentences"] = "acme.whole-sentences"
    level: ClassVar[Levels] = "word"
    greater_is_better: ClassVar[bool] = True

    def build(self, ctx: MetricContext) -> Measure:
        """Yield sentences that are right and all of them, and their ratio."""
        return Measure(statistics=right_and_all, value=lambda total: float(total[0] / total[1]))


def right_and_all(predictions: Predictions) -> Tensor:
    """(2,): rows all of whose N predictions are right, and rows."""
    import torch

    assert predictions.rows_N is not None, "where words are learned each is of a row"
    wrong_N = predictions.logits_NV.argmax(-1) != predictions.targets_N
    rows, wrong = predictions.rows_N.unique().numel(), predictions.rows_N[wrong_N].unique().numel()
    return torch.tensor([rows - wrong, rows], device=wrong_N.device).double()
