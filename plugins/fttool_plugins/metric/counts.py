"""Count, per class, what was predicted and what is true; the numbers of classification are made of these counts.

A row has one class, the one with the highest logit; or, where it may have several, each one that is likelier than not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from fttool.api import Predictions

if TYPE_CHECKING:
    from torch import Tensor

MOST_CLASSES_CONFUSED = 50
"""Classes up to which a confusion matrix is counted; it grows with their square, and nobody reads a larger one."""

Table: TypeAlias = list[list[str | int | float]]


def predicted_and_true(predictions: Predictions) -> tuple[Tensor, Tensor]:
    """0 or 1 for each row and class, float64, (N, C): what is predicted, and what is true."""
    import torch.nn.functional as F

    logits_NC, targets = predictions.logits_NV, predictions.targets_N
    if targets.ndim == 2:
        return (logits_NC > 0).double(), targets.double()
    classes = logits_NC.shape[1]
    return F.one_hot(logits_NC.argmax(-1), classes).double(), F.one_hot(targets, classes).double()


def class_counts(predictions: Predictions) -> Tensor:
    """Per class the rows that are right, predicted and true, then the confusion matrix; float64, one dimension.

    The matrix has the true classes as its rows. It is left out where rows may have several classes, or of many.
    """
    import torch

    predicted_NC, true_NC = predicted_and_true(predictions)
    counts_3C = torch.stack([(predicted_NC * true_NC).sum(0), predicted_NC.sum(0), true_NC.sum(0)])
    if predictions.targets_N.ndim == 2 or true_NC.shape[1] > MOST_CLASSES_CONFUSED:
        return counts_3C.flatten()
    return torch.cat([counts_3C.flatten(), (true_NC.T @ predicted_NC).flatten()])


def split(total: Tensor, classes: int) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Of summed `class_counts`: right, predicted and true (C,), and the confusion matrix (C, C) where there is one."""
    right_C, predicted_C, true_C = total[: 3 * classes].view(3, classes)
    rest = total[3 * classes :]
    return right_C, predicted_C, true_C, rest.view(classes, classes) if rest.numel() else None


def class_tables(total: Tensor, names: Sequence[str]) -> dict[str, Table]:
    """Precision, recall, F1 and rows of each class; and the confusion matrix."""
    right_C, predicted_C, true_C, confusion_CC = split(total, len(names))
    per_class: Table = [["class", "precision", "recall", "f1", "rows"]]
    counts = zip(names, right_C.tolist(), predicted_C.tolist(), true_C.tolist(), strict=True)
    for name, right, predicted, true in counts:
        numbers = [ratio(right, predicted), ratio(right, true), ratio(2 * right, predicted + true)]
        per_class.append([name, *(round(number, 4) for number in numbers), int(true)])
    tables = {"per class": per_class}
    if confusion_CC is not None:
        confusion: Table = [["", *names]]
        for name, row in zip(names, confusion_CC.tolist(), strict=True):
            confusion.append([name, *map(int, row)])
        tables["true ↓ predicted →"] = confusion
    return tables


def ratio(part: float, total: float) -> float:
    """Part over whole; 0 of nothing is 0."""
    return part / total if total else 0.0
