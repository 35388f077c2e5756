"""What each row of an update had to do with its loss and its gradient.

The loss of an update is the sum of its items' losses over the number of items, so a row's share of it is the sum of its
own over the sum of all. Of the gradient a row's share is the norm of its own gradient over the sum of these norms: that
of the whole update is shorter, as gradients of rows partly cancel. Rows of several updates are ranked by how many times
the share of their update's median row they have: neither another bad row beside them nor a small update hides them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median

import torch

from fttool.verbs import Revisited


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """A row of an update."""

    update: int
    row: int
    """Its number among all that are learned from."""
    origin: str
    asked: str
    said: str
    """What is learned of it, or its classes."""
    items: int
    """Learned tokens, words or rows."""
    loss: float
    """Sum over them."""
    norm: float
    """Of its gradient of that sum, over the parameters that train in the update."""
    loss_share: float
    norm_share: float
    times: float
    """How many times the share of the median row it has, the mean of loss and gradient; infinite where one of the two
    is not finite."""


def scored(past: Revisited, update: int, track: Callable[[Sequence[int]], Iterable[int]] = iter) -> list[Scored]:
    """The rows of an update at the weights that the model has now, the worst first."""
    rows, parameters = past.rows(update), past.trained(update)
    measured = {row: _measured(past, row, parameters) for row in track(list(dict.fromkeys(rows)))}
    losses, norms = ([measured[row][which] for row in rows] for which in (1, 2))
    found: list[Scored] = []
    for row in rows:
        items, loss, norm = measured[row]
        asked, said = past.words(row)
        found.append(
            Scored(
                update=update,
                row=row,
                origin=past.origin(row),
                asked=asked,
                said=said,
                items=items,
                loss=loss,
                norm=norm,
                loss_share=_share(loss, losses),
                norm_share=_share(norm, norms),
                times=(_times(loss, losses) + _times(norm, norms)) / 2,
            )
        )
    return ranked(found)


def ranked(rows: Iterable[Scored]) -> list[Scored]:
    """The worst first; alike ones in the order given."""
    return sorted(rows, key=lambda row: -row.times)


def _measured(past: Revisited, row: int, parameters: Sequence[torch.nn.Parameter]) -> tuple[int, float, float]:
    """A row's items, the sum of their losses, and the norm of the gradient of that sum."""
    predictions, items = past.predictions(row)
    loss = predictions.losses_N.sum()
    gradients = torch.autograd.grad(loss, list(parameters), allow_unused=True, materialize_grads=True)
    squares = [gradient.float().square().sum() for gradient in gradients]
    return items, float(loss.detach()), float(torch.stack(squares).sum().sqrt())


def _share(value: float, of: Sequence[float]) -> float:
    """Of the sum of those that are finite; NaN for a value that is not."""
    if not math.isfinite(value):
        return math.nan
    total = sum(one for one in of if math.isfinite(one))
    return value / total if total > 0 else 0.0


def _times(value: float, of: Sequence[float]) -> float:
    """As a multiple of the median of those that are finite, or of their mean where more than half of them are 0."""
    finite = [one for one in of if math.isfinite(one)]
    if not math.isfinite(value):
        return math.inf
    middle = median(finite) or fmean(finite)
    return value / middle if middle else 1.0
