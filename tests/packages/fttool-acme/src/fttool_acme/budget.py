"""`acme.token-budget`: so many tokens and no more, whatever the rows."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from fttool.api import Example, Filter, FilterContext, RowFilter

OVER, UNWRITTEN = "over the budget of tokens", "cannot be written"


class TokenBudget(Filter):
    """Keep rows, drawn by the seed, until a number of tokens is reached: runs on different rows then cost the same.

    Rows that are measured on are kept and not counted, since nothing is learned from them.
    """

    name: Literal["acme.token-budget"] = "acme.token-budget"
    tokens: Annotated[int, Field(ge=1)]
    """Tokens of all rows together, each as the chat template writes it and before it is cut."""

    def build(self, ctx: FilterContext) -> RowFilter:
        """Yield the filter."""
        return lambda examples: within(examples, self.tokens, ctx)


def within(examples: Sequence[Example], budget: int, ctx: FilterContext) -> list[str | None]:
    """One entry per example: None while the budget lasts, in an order drawn by the seed; a longer row may be left out
    where a shorter one still fits.
    """
    order = random.Random(ctx.seed).sample(range(len(examples)), len(examples))
    verdicts: list[str | None] = [None] * len(examples)
    for index in ctx.track(order, "counting tokens"):
        if ctx.measured(examples[index]):
            continue
        try:
            length = ctx.tokens(examples[index])
        except ValueError:
            verdicts[index] = UNWRITTEN
            continue
        if length > budget:
            verdicts[index] = OVER
        else:
            budget -= length
    return verdicts
