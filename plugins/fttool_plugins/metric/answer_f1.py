"""`answer-f1`: how many words an answer shares with the right one, as in SQuAD (arXiv 1606.05250)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from typing_extensions import override

from fttool.api import Answer, Measure, Metric, MetricContext
from fttool_plugins.metric.normalised import mean, normalised, sum_and_count

if TYPE_CHECKING:
    from torch import Tensor


class AnswerF1(Metric):
    """The mean over evaluation rows of the harmonic mean of two shares: of the words of the model's greedy answer those
    that are right, and of the right answer's words those that it has.

    Words are compared without upper and lower case, punctuation and English articles, and count as often as they occur.
    Of two answers without a word F1 is 1, of one it is 0. For answers of a few words; it does not look at their order.
    """

    name: Literal["answer-f1"] = "answer-f1"
    greater_is_better: ClassVar[bool] = True
    generates: ClassVar[bool] = True

    @override
    def build(self, ctx: MetricContext) -> Measure:
        return Measure(answers=scores, value=mean)


def scores(answers: Sequence[Answer]) -> Tensor:
    """Σ F1 and the number of answers, float64, shape (2,)."""
    return sum_and_count([f1(answer.given, answer.expected) for answer in answers])


def f1(given: str, expected: str) -> float:
    """2PR / (P + R) of the words that both have, from 0 to 1."""
    ours, theirs = normalised(given).split(), normalised(expected).split()
    if not ours or not theirs:
        return float(ours == theirs)
    shared = (Counter(ours) & Counter(theirs)).total()
    return 2 * shared / (len(ours) + len(theirs))
