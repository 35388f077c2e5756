"""The classes of a run: their order, what a row's classes are to the loss, and how much each class counts in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from fttool.api import did_you_mean

if TYPE_CHECKING:
    from torch import Tensor


def in_order(names: Sequence[str]) -> tuple[str, ...]:
    """By name; whole numbers by their value, so that class 10 is not the second."""
    if all(name.isdecimal() for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def targets(rows: Sequence[tuple[str, ...]], names: Sequence[str], *, multi_label: bool) -> Tensor:
    """The number of each row's class, (B,); where rows may have several, 0 or 1 for each class, float32, (B, C).

    Raises `ValueError` for a row with a class that is not among `names`, or without exactly one where it must have one.
    """
    import torch

    numbers = {name: number for number, name in enumerate(names)}
    for row in rows:
        for name in row:
            if name not in numbers:
                known = did_you_mean(name, names)
                raise ValueError(f"no training row has the class {name!r}, so it cannot be told from others; {known}")
        if len(row) != 1 and not multi_label:
            what = " and ".join(map(repr, row)) if row else "no class"
            raise ValueError(f"the row has {what}; where rows may have several or none, set task.multi_label = true")
    if not multi_label:
        return torch.tensor([numbers[row[0]] for row in rows])
    hot_BC = torch.zeros(len(rows), len(names))
    for index, row in enumerate(rows):
        hot_BC[index, [numbers[name] for name in row]] = 1.0
    return hot_BC


def balanced(counts: Mapping[str, int], names: Sequence[str], rows: int, *, multi_label: bool) -> list[float]:
    """Weights by which every class counts alike.

    Of one class a row, n / (C·n_c), which is 1 on average over the n rows (King and Zeng 2001, "Logistic Regression in
    Rare Events Data"). Where rows may have several, the weight of a row that has the class against one that has not,
    (n − n_c) / n_c, or 1 for a class that all rows have.
    """
    if multi_label:
        return [(rows - counts[name]) / counts[name] or 1.0 for name in names]
    return [rows / (len(names) * counts[name]) for name in names]


def losses(logits_NC: Tensor, targets_N: Tensor, weights_C: Tensor | None) -> Tensor:
    """Cross-entropy of each row in nats, (N,), times the weight of its class.

    With targets (N, C) the mean over the classes of their binary cross-entropies, in which `weights_C` counts where a
    class applies.
    """
    import torch.nn.functional as F

    if targets_N.ndim == 1:
        return F.cross_entropy(logits_NC, targets_N, weight=weights_C, reduction="none")
    return F.binary_cross_entropy_with_logits(logits_NC, targets_N, pos_weight=weights_C, reduction="none").mean(-1)
