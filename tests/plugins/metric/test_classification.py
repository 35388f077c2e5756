"""Metrics of classes: their values against scikit-learn's, and the tables that come with them."""

import pytest
import torch

from fttool.api import Measure, Metric, MetricContext, Predictions
from fttool_plugins.metric.accuracy import Accuracy
from fttool_plugins.metric.counts import MOST_CLASSES_CONFUSED
from fttool_plugins.metric.macro_f1 import MacroF1

TRUE = [0, 0, 0, 1, 1, 2, 2, 2, 2, 3]
PREDICTED = [0, 0, 1, 1, 2, 2, 2, 0, 2, 2]
NAMES = ("a", "b", "c", "d", "e")
"""Of `e` there is no row."""
TRUE_HOT = [[1, 0, 1], [0, 0, 1], [1, 1, 0], [0, 0, 0], [1, 0, 0]]
PREDICTED_HOT = [[1, 0, 0], [0, 1, 1], [1, 1, 0], [0, 0, 0], [0, 0, 0]]


def single(true: list[int] = TRUE, predicted: list[int] = PREDICTED, classes: int = 5) -> Predictions:
    logits_NV = torch.nn.functional.one_hot(torch.tensor(predicted), classes) * 3.0
    return Predictions(logits_NV=logits_NV, targets_N=torch.tensor(true), losses_N=torch.zeros(len(true)))


def several() -> Predictions:
    logits_NV = torch.tensor(PREDICTED_HOT) * 2.0 - 1.0
    targets_N = torch.tensor(TRUE_HOT, dtype=torch.float32)
    return Predictions(logits_NV=logits_NV, targets_N=targets_N, losses_N=torch.zeros(5))


def measured(metric: Metric, seen: Predictions, names: tuple[str, ...]) -> tuple[float, Measure, torch.Tensor]:
    measure = metric.build(MetricContext(labels=names))
    total = measure.statistics(seen)
    return measure.value(total), measure, total


def test_accuracy_is_scikit_learns() -> None:
    assert measured(Accuracy(), single(), NAMES)[0] == pytest.approx(0.6, rel=1e-12)
    # accuracy_score of indicator rows: all classes of a row must be right
    assert measured(Accuracy(), several(), ("x", "y", "z"))[0] == pytest.approx(0.4, rel=1e-12)


def test_macro_f1_is_scikit_learns() -> None:
    # f1_score(…, average="macro", zero_division=0), which leaves out a class that neither occurs nor is predicted
    assert measured(MacroF1(), single(), NAMES)[0] == pytest.approx(0.45833333333333326, rel=1e-12)
    assert measured(MacroF1(), several(), ("x", "y", "z"))[0] == pytest.approx(0.7111111111111111, rel=1e-12)


def test_the_tables_say_what_the_number_is_made_of() -> None:
    _, measure, total = measured(MacroF1(), single(), NAMES)
    assert measure.details is not None
    assert measure.details(total) == {
        "per class": [
            ["class", "precision", "recall", "f1", "rows"],
            ["a", 0.6667, 0.6667, 0.6667, 3],
            ["b", 0.5, 0.5, 0.5, 2],
            ["c", 0.6, 0.75, 0.6667, 4],
            ["d", 0.0, 0.0, 0.0, 1],
            ["e", 0.0, 0.0, 0.0, 0],
        ],
        "true ↓ predicted →": [
            ["", "a", "b", "c", "d", "e"],
            ["a", 2, 1, 0, 0, 0],
            ["b", 0, 1, 1, 0, 0],
            ["c", 1, 0, 3, 0, 0],
            ["d", 0, 0, 1, 0, 0],
            ["e", 0, 0, 0, 0, 0],
        ],
    }


def test_where_rows_have_several_classes_there_is_no_confusion_matrix() -> None:
    _, measure, total = measured(MacroF1(), several(), ("x", "y", "z"))
    assert measure.details is not None
    assert measure.details(total) == {
        "per class": [
            ["class", "precision", "recall", "f1", "rows"],
            ["x", 1.0, 0.6667, 0.8, 3],
            ["y", 0.5, 1.0, 0.6667, 1],
            ["z", 1.0, 0.5, 0.6667, 2],
        ]
    }


def test_many_classes_have_their_numbers_and_no_matrix() -> None:
    classes = MOST_CLASSES_CONFUSED + 1
    names = tuple(map(str, range(classes)))
    value, measure, total = measured(MacroF1(), single([0, 50, 50], [0, 50, 0], classes), names)
    assert total.shape == (3 * classes,)
    assert value == pytest.approx(2 / 3, rel=1e-12)
    assert measure.details is not None and list(measure.details(total)) == ["per class"]


def test_statistics_of_batches_add_up() -> None:
    whole = single()
    measure = MacroF1().build(MetricContext(labels=NAMES))
    parts = [
        Predictions(logits_NV=whole.logits_NV[at], targets_N=whole.targets_N[at], losses_N=whole.losses_N[at])
        for at in (slice(0, 1), slice(1, 7), slice(7, 10))
    ]
    assert torch.equal(sum(measure.statistics(part) for part in parts), measure.statistics(whole))
