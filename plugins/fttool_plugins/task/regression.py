"""Numbers of rows: one output, learned by its squared error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fttool.api import DataError, Example, Predictions, Problem, TaskContext
from fttool_plugins.task.classifying import numbers
from fttool_plugins.task.heads import row_logits

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

CONFIGURATION: Mapping[str, Any] = {
    "num_labels": 1,
    "id2label": {0: "value"},
    "label2id": {"value": 0},
    "problem_type": "regression",
}
"""What transformers' configuration says of such a head; its own pipeline then gives the number as it is."""


def targets(rows: Sequence[tuple[str, ...]]) -> Tensor:
    """The number of each row, float32, (B,); raises `ValueError` for a row that has not just one."""
    import torch

    numbers: list[float] = []
    for row in rows:
        if len(row) != 1:
            raise ValueError(f"the row has {len(row)} labels, and one number is learned of each")
        try:
            numbers.append(float(row[0]))
        except ValueError:
            raise ValueError(f"the label {row[0]!r} is not a number, and the task learns numbers") from None
    return torch.tensor(numbers)


def refuse_constant(ctx: TaskContext) -> None:
    """Raise `DataError` where all training rows have one number."""
    if ctx.rows and len(ctx.label_counts) == 1:
        message = f"all training rows have the number {next(iter(ctx.label_counts))}"
        hint = "rows of one number teach nothing; is a part of the rows missing, or data.train.limit too low?"
        raise DataError(Problem(message, hint=hint, key=("data", "train")))


def score(model: PreTrainedModel, batch: Mapping[str, Tensor]) -> Predictions:
    """Predictions of the numbers of a micro-batch's N rows, with their squared errors."""
    logits_N1 = row_logits(model, batch)
    targets_N = batch["targets"]
    return Predictions(logits_NV=logits_N1, targets_N=targets_N, losses_N=(logits_N1.squeeze(1) - targets_N).square())


def answer(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, example: Example, max_length: int, *, as_text: bool
) -> str:
    """The number of a row."""
    (number,) = numbers(model, tokenizer, [(example.prompt, example.second)], max_length, as_text=as_text)
    return f"{number:.4f}"
