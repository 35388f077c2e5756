"""`repetition`: drop answers that say one thing over and over.

A model that has learned such an answer falls into the same loop (Holtzman et al. 2020, "The Curious Case of Neural Text
Degeneration", arXiv 1904.09751).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import override

from fttool.api import Example, Filter, FilterContext, RowFilter


class Repetition(Filter):
    """Drop rows whose answer says one thing at least `times` in a row, over `characters` or more.

    Lines of a table, rulers and numbers are not loops: what repeats must have letters in it. Case and white space make
    no difference.

    Cost: about 0.03 ms for an answer of 1,000 characters, and 2 ms for one that repeats a phrase within `period`.
    """

    name: Literal["repetition"] = "repetition"
    times: Annotated[int, Field(ge=2)] = 4
    """How often it is said, without a break."""
    characters: Annotated[int, Field(ge=2)] = 60
    """Shortest stretch that counts, all its repetitions together."""
    period: Annotated[int, Field(ge=1)] = 200
    """Longest piece that is looked for, in characters."""

    @override
    def build(self, ctx: FilterContext) -> RowFilter:
        from fttool_plugins.filter.loops import longest_loop

        def reason(example: Example) -> str | None:
            text = " ".join(example.answer().casefold().split())
            loop = longest_loop(text, times=self.times, period=self.period, at_least=self.characters)
            return "says one thing over and over" if loop else None

        return lambda examples: list(ctx.each(reason, examples, "looking for repetition"))
