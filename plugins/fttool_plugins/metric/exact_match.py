"""`exact-match`: how many answers are the right one, to the letter or but for what SQuAD's evaluation leaves out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from typing_extensions import override

from fttool.api import Answer, Measure, Metric, MetricContext
from fttool_plugins.metric.normalised import mean, normalised, sum_and_count

if TYPE_CHECKING:
    from torch import Tensor


class ExactMatch(Metric):
    """Share of evaluation rows whose prompt the model answers, greedily, with just the answer that the row teaches.

    White space at both ends is left out. For answers that can be right in one way: a number, a name, a class, code.
    """

    name: Literal["exact-match"] = "exact-match"
    greater_is_better: ClassVar[bool] = True
    generates: ClassVar[bool] = True
    normalise: bool = False
    """True: upper and lower case, punctuation, English articles and white space make no difference, as in SQuAD."""

    @override
    def build(self, ctx: MetricContext) -> Measure:
        return Measure(answers=self.matches, value=mean)

    def matches(self, answers: Sequence[Answer]) -> Tensor:
        """Right answers and their number, float64, shape (2,)."""
        form = normalised if self.normalise else str.strip
        return sum_and_count([float(form(answer.given) == form(answer.expected)) for answer in answers])
