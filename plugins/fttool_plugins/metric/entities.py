"""What the metrics of entities count: by kind, those that are right, predicted and true.

An entity is right where its kind, its first and its last word are. The numbers are those of seqeval in its default mode
(Nakayama 2018, https://github.com/chakki-works/seqeval): over all entities, whatever their kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING

from fttool.api import Measure, MetricContext, Predictions, Problem, RecipeError
from fttool_plugins.metric.counts import Table, ratio
from fttool_plugins.task.entities import entities, is_of_entities, kinds

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


def entity_measure(ctx: MetricContext, metric: str, value: Callable[[float, float, float], float]) -> Measure:
    """A metric whose number is `value(right, predicted, true)`; with a table by kind.

    Raises `RecipeError` where the classes are not tags of entities.
    """
    other = next((name for name in ctx.labels if not is_of_entities(name)), None)
    if other is not None:
        message = f"{metric} needs tags of entities such as B-PER, I-PER and O, and the rows have {other!r}"
        hint = 'set evaluation.metrics = ["accuracy", "macro-f1", "loss"]'
        raise RecipeError(Problem(message, hint=hint, key=("evaluation", "metrics")))
    entity_kinds = kinds(ctx.labels)
    return Measure(
        statistics=partial(entity_counts, names=ctx.labels, entity_kinds=entity_kinds),
        value=lambda total: value(*total.view(3, -1).sum(1).tolist()),
        details=lambda total: {"per entity": entity_table(total, entity_kinds)},
    )


def entity_counts(predictions: Predictions, names: Sequence[str], entity_kinds: Sequence[str]) -> Tensor:
    """(3·K,), float64: of each of the K kinds the entities that are right, then predicted, then true."""
    import torch

    counts = [[0] * len(entity_kinds) for _ in range(3)]
    numbers = {kind: number for number, kind in enumerate(entity_kinds)}
    predicted: list[int] = predictions.logits_NV.argmax(-1).tolist()
    true: list[int] = predictions.targets_N.tolist()
    rows = predictions.rows_N.tolist() if predictions.rows_N is not None else [0] * len(true)
    for _, words in groupby(zip(rows, predicted, true, strict=True), key=lambda word: word[0]):
        pairs = [(names[guess], names[right]) for _, guess, right in words]
        found, true_ones = (set(entities(tags)) for tags in zip(*pairs, strict=True))
        for count, group in zip(counts, (found & true_ones, found, true_ones), strict=True):
            for entity in group:
                count[numbers[entity.kind]] += 1
    return torch.tensor(counts, dtype=torch.float64, device=predictions.logits_NV.device).flatten()


def entity_table(total: Tensor, entity_kinds: Sequence[str]) -> Table:
    """Precision, recall, F1 and the number of true entities of each kind."""
    table: Table = [["entity", "precision", "recall", "f1", "entities"]]
    for kind, (right, predicted, true) in zip(entity_kinds, total.view(3, -1).T.tolist(), strict=True):
        numbers = [precision(right, predicted, true), recall(right, predicted, true), f1(right, predicted, true)]
        table.append([kind, *(round(number, 4) for number in numbers), int(true)])
    return table


def precision(right: float, predicted: float, true: float) -> float:
    """How many of those that are predicted are right, from 0 to 1; 0 of none."""
    return ratio(right, predicted)


def recall(right: float, predicted: float, true: float) -> float:
    """How many of those that there are have been found, from 0 to 1; 0 of none."""
    return ratio(right, true)


def f1(right: float, predicted: float, true: float) -> float:
    """The harmonic mean of both."""
    return ratio(2 * right, predicted + true)
