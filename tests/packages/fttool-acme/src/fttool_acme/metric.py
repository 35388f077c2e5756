"""`acme.top5`: a softer accuracy."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from fttool.api import Measure, Metric, MetricContext, Predictions

if TYPE_CHECKING:
    from torch import Tensor


class Top5(Metric):
    """Share of the learned tokens that are among the model's five likeliest, between 0 and 1."""

    name: Literal["acme.top5"] = "acme.top5"
    greater_is_better: ClassVar[bool] = True
    k: Annotated[int, Field(ge=1)] = 5
    """How many of the likeliest tokens count as right."""

    def build(self, ctx: MetricContext) -> Measure:
        """Yield hits and places, and their ratio."""
        return Measure(statistics=partial(hits, k=self.k), value=lambda total: float(total[0] / total[1]))


def hits(predictions: Predictions, *, k: int) -> Tensor:
    """(2,): targets among the k largest of logits (N, V), and N."""
    import torch

    logits_NV, targets_N = predictions.logits_NV, predictions.targets_N
    top_NK = logits_NV.topk(min(k, logits_NV.shape[-1]), dim=-1).indices
    found = (top_NK == targets_N[:, None]).any(-1).sum()
    return torch.stack([found, torch.tensor(len(targets_N), device=found.device)]).double()
