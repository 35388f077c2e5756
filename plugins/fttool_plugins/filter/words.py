"""`words`: drop answers that are too short or too long."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from typing_extensions import override

from fttool.api import Example, Filter, FilterContext, RowFilter


class Words(Filter):
    """Keep rows whose answer (the completion, or all assistant turns) has between `min` and `max` words.

    Words are what white space separates, so this counts little in languages that write without it.
    """

    name: Literal["words"] = "words"
    min: Annotated[int, Field(ge=0)] = 1
    """Fewest words."""
    max: Annotated[int, Field(ge=0)] | None = None
    """Most words; default: any number."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.max is not None and self.min > self.max:
            raise ValueError(f"min = {self.min} is more than max = {self.max}, so no row would be kept")
        return self

    @override
    def build(self, ctx: FilterContext) -> RowFilter:
        return lambda examples: count_words(examples, self.min, self.max)


def count_words(examples: Sequence[Example], at_least: int, at_most: int | None) -> list[str | None]:
    """One entry per example: None where its answer has `at_least` to `at_most` words, else the reason to drop it."""
    reasons: list[str | None] = []
    for example in examples:
        count = len(example.answer().split())
        if count < at_least:
            reasons.append(f"fewer than {at_least} words")
        elif at_most is not None and count > at_most:
            reasons.append(f"more than {at_most} words")
        else:
            reasons.append(None)
    return reasons
