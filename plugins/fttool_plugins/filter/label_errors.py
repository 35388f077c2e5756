"""`label-errors`: drop, relabel or flag rows whose label is probably wrong.

Each row's class is predicted by a classifier that has not learned from it, and confident learning tells which rows are
more surely of another class than of theirs (Northcutt et al. 2021, "Confident Learning: Estimating Uncertainty in
Dataset Labels", arXiv 1911.00068). It is a few lines of arithmetic, so the package cleanlab, with scikit-learn and
pandas behind it, is not asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import override

from fttool.api import Example, Filter, FilterContext, Kept, Reason, RowFilter, Verdict


class LabelErrors(Filter):
    """Drop, relabel or flag rows whose text is more surely of another class than of the one that they have.

    The classifier knows words and pairs of words and no meanings, so it serves where words tell classes apart, as with
    topics, spam or languages, and less for irony or inference. On SpamAssassin's mails (1,000 of them, 5, 10 or 20% of
    the labels flipped) 85 to 96% of the suspects are errors, and 88 to 90% of the errors are suspects; where no label
    is wrong, 4 mails are suspected. What it brings depends on the learner: one that fits every label is right about 89%
    of 500 new mails with a fifth of the labels flipped, 96% without the suspects, and 97% with the right labels; one
    that is held back by a strong penalty was right about 95%, and 94% without them, as hard rows went too. Rows that
    are hard and right are among the suspects: look at them first (`action = "flag"`, or `fttool audit`).

    Looked at are rows with exactly one class, and of classes with `folds` rows or more. Numbers, several classes a row
    and words with classes are kept.

    Of more than 20,000 rows so many are learned from for each fold, and of each class 100 at least; all are judged.

    Cost: about 2 ms a row, single-threaded, and 5 kilobytes for 200 words.
    """

    name: Literal["label-errors"] = "label-errors"
    action: Literal["drop", "relabel", "flag"] = "drop"
    """What becomes of a suspect: dropped, given the class that it looks like, or only counted."""
    confidence: Annotated[float, Field(gt=0, le=1)] = 0.9
    """How sure of another class the classifier must be: the share of the mean probability that it gives that class
    where it is the label. Higher values find fewer errors and are wrong less often; 1 is the paper's."""
    folds: Annotated[int, Field(ge=2)] = 5
    """Parts of the rows; each is judged by a classifier that has learned from the others."""

    @override
    def build(self, ctx: FilterContext) -> RowFilter:
        def decide(examples: Sequence[Example]) -> list[Verdict]:
            judged, names = self._judged(examples)
            verdicts: list[Verdict] = [None] * len(examples)
            if len(names) > 1:
                for place, name, severity in self._suspects([examples[place] for place in judged], names, ctx):
                    verdicts[judged[place]] = self._verdict(examples[judged[place]], name, severity)
            return verdicts

        return decide

    def _judged(self, examples: Sequence[Example]) -> tuple[list[int], list[str]]:
        """The places of the rows that are looked at, and the names of their classes."""
        single = [place for place, one in enumerate(examples) if not one.words and len(one.labels or ()) == 1]
        counts = Counter(label for place in single for label in examples[place].labels or ())
        names = sorted(name for name, count in counts.items() if count >= self.folds)
        return [place for place in single if set(examples[place].labels or ()) <= set(names)], names

    def _suspects(
        self, examples: Sequence[Example], names: Sequence[str], ctx: FilterContext
    ) -> list[tuple[int, str, float]]:
        """Place, likely class, and how much more probable that one is."""
        import torch

        from fttool_plugins.filter.confident_learning import suspects
        from fttool_plugins.filter.text_classifier import counted_words, held_out_probabilities

        number = {name: index for index, name in enumerate(names)}
        given = [number[label] for example in examples for label in example.labels or ()]
        counted = list(ctx.each(lambda example: counted_words(example.answer()), examples, "counting words"))
        probabilities = held_out_probabilities(counted, given, self.folds, ctx.seed, ctx.track)
        likely: list[int] = suspects(probabilities, torch.tensor(given), self.confidence).tolist()
        return [
            (place, names[other], float(probabilities[place, other] - probabilities[place, given[place]]))
            for place, other in enumerate(likely)
            if other >= 0
        ]

    def _verdict(self, example: Example, name: str, severity: float) -> Verdict:
        reason = Reason("its label looks wrong", severity=severity)
        if self.action == "drop":
            return reason
        return Kept(reason, replace(example, labels=(name,)) if self.action == "relabel" else None)
