"""`difficulty`: keep the rows that the model finds neither too easy nor too hard.

What a model knows already teaches it nothing; what it finds hardest is often noise. A band by loss is the simplest of
the ways to choose (Marion et al. 2023, "When Less is More", arXiv 2309.04564, found the middle of perplexity best).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from typing_extensions import override

from fttool.api import Example, Filter, FilterContext, Kept, Reason, RowFilter, Verdict


class Difficulty(Filter):
    """Keep rows of which the answer's mean loss, under the recipe's model before training, is in a band.

    The band is by rank among the rows, from the easiest (0) to the hardest (1). Whether the hardest rows are noise or
    what is to be learned, the loss does not say: compare two runs. Short answers have the most extreme losses. Rows
    with classes, and rows that the chat template cannot write, are kept.

    Cost: a forward pass a row on the CPU, about a second of a slow core for 100 tokens and 135 million parameters; what
    was computed is kept for the next run.
    """

    name: Literal["difficulty"] = "difficulty"
    easiest: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the rows, the easiest ones, that are dropped."""
    hardest: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Share of the rows, the hardest ones, that are dropped."""
    longest: Annotated[int, Field(ge=8)] = 256
    """Tokens of the prompt's end and of the answer's beginning that are looked at."""
    action: Literal["drop", "flag"] = "drop"
    """What becomes of the rows outside of the band: dropped, or only counted."""

    @model_validator(mode="after")
    def _something_is_left(self) -> Self:
        if self.easiest + self.hardest >= 1:
            raise ValueError(f"easiest = {self.easiest} and hardest = {self.hardest} leave no row")
        return self

    @property
    @override
    def slow(self) -> bool:
        return True

    @override
    def build(self, ctx: FilterContext) -> RowFilter:
        def decide(examples: Sequence[Example]) -> list[Verdict]:
            from fttool_plugins.filter.answer_loss import answer_losses

            losses = answer_losses(examples, ctx, prompted=True, longest=self.longest)
            ranked = sorted((loss, place) for place, loss in enumerate(losses) if loss is not None)
            verdicts: list[Verdict] = [None] * len(examples)
            first, last = round(self.easiest * len(ranked)), len(ranked) - round(self.hardest * len(ranked))
            for rank, (loss, place) in enumerate(ranked):
                if not first <= rank < last:
                    easy = rank < first
                    words = "among the easiest for the model" if easy else "among the hardest for the model"
                    reason = Reason(words, severity=-loss if easy else loss)
                    verdicts[place] = Kept(reason) if self.action == "flag" else reason
            return verdicts

        return decide
