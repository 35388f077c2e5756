"""Correlation of the numbers that a model says with those of the rows; of constants there is none, which is said."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from fttool.api import Measure, Predictions

if TYPE_CHECKING:
    from torch import Tensor

ROUNDINGS = 8
"""Roundings of float32 by which numbers that are one may differ: rows of other lengths are summed in another order."""


def correlation_measure(ranked: Callable[[Tensor], Tensor] = lambda values: values) -> Measure:
    """The correlation of what `ranked` makes of all predictions and of all numbers, (n,) each."""
    return Measure(
        statistics=pairs,
        value=lambda pairs_N2: correlation(ranked(pairs_N2[:, 0]), ranked(pairs_N2[:, 1]), constant(pairs_N2)),
        remark=constant,
        joined=True,
    )


def pairs(predictions: Predictions) -> Tensor:
    """The model's prediction for each row and the row's number, float64, (N, 2)."""
    import torch

    return torch.stack([predictions.logits_NV[:, 0].double(), predictions.targets_N.double()], dim=1)


def constant(pairs_N2: Tensor) -> str | None:
    """Why the pairs have no correlation; None where they have one."""
    import torch

    if len(pairs_N2) < 2:
        return "no correlation: there is one row"
    least_2, most_2 = pairs_N2.aminmax(dim=0)
    alike_2 = most_2 - least_2 <= ROUNDINGS * torch.finfo(torch.float32).eps * pairs_N2.abs().amax(dim=0)
    if bool(alike_2[0]):
        return f"no correlation: the model predicts {pairs_N2[0, 0]:.4g} for every row"
    return f"no correlation: every row has the label {pairs_N2[0, 1]:.4g}" if bool(alike_2[1]) else None


def correlation(predicted_N: Tensor, true_N: Tensor, reason: str | None) -> float:
    """Pearson's r, from −1 to 1; NaN where there is a `reason` why there is none."""
    if reason is not None:
        return math.nan
    ours, theirs = predicted_N - predicted_N.mean(), true_N - true_N.mean()
    r = float((ours * theirs).sum() / (ours.square().sum().sqrt() * theirs.square().sum().sqrt()))
    return max(-1.0, min(1.0, r))


def ranks(values_N: Tensor) -> Tensor:
    """The rank of each value from 1, (N,); equal values share the mean of their ranks."""
    _, which_N, counts = values_N.unique(return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    return (last - (counts - 1) / 2)[which_N]
