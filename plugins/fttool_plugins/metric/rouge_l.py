"""`rouge-l`: the longest sequence of words that an answer shares with the right one (Lin 2004, ACL W04-1013)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from typing_extensions import override

from fttool.api import Answer, Measure, Metric, MetricContext, Problem
from fttool_plugins.metric.normalised import mean, sum_and_count

if TYPE_CHECKING:
    from torch import Tensor

    from fttool.api import Recipe

INSTALL = "pip install 'fttool[rouge]'"


class RougeL(Metric):
    """The mean over evaluation rows of ROUGE-L's F-measure: how much of the model's greedy answer and of the right one
    is in their longest common sequence of words, which need not stand next to each other.

    As `rouge-score` computes it, Google's package, from the extra `fttool[rouge]`: words are runs of a–z and 0–9 in
    lower case, so a text in another script has none. For answers of a sentence or more, such as summaries.
    """

    name: Literal["rouge-l"] = "rouge-l"
    greater_is_better: ClassVar[bool] = True
    generates: ClassVar[bool] = True
    stem: bool = False
    """True: English words of more than three letters are compared by their stems (Porter's)."""

    @override
    def check(self, recipe: Recipe) -> Iterable[Problem]:
        if find_spec("rouge_score") is None:
            yield Problem("rouge-l needs rouge-score, which is not installed", hint=INSTALL)

    @override
    def build(self, ctx: MetricContext) -> Measure:
        from rouge_score.rouge_scorer import RougeScorer  # pyright: ignore

        scorer: Any = RougeScorer(["rougeL"], use_stemmer=self.stem)
        return Measure(answers=lambda answers: scores(answers, scorer.score), value=mean)


def scores(answers: Sequence[Answer], score: Callable[[str, str], Any]) -> Tensor:
    """Σ F and the number of answers, float64, shape (2,)."""
    return sum_and_count([float(score(answer.expected, answer.given)["rougeL"].fmeasure) for answer in answers])
