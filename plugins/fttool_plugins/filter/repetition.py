"""`repetition`: drop answers that say one thing over and over.

A model that has learned such an answer falls into the same loop (Holtzman et al. 2020, "The Curious Case of Neural Text
Degeneration", arXiv 1904.09751). A loop is a stretch in which each character equals the one a period before it; nothing
need be known of words or languages for that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import override

from fttool.api import Example, Filter, FilterContext, RowFilter


class Repetition(Filter):
    """Drop rows whose answer says one thing at least `times` in a row, over `characters` or more.

    Lines of a table, rulers and numbers are not loops: what repeats must have letters in it. Case and white space make
    no difference.

    Cost: about 1 ms for an answer of 1,000 characters.
    """

    name: Literal["repetition"] = "repetition"
    times: Annotated[int, Field(ge=2)] = 4
    """How often it is said, without anything in between."""
    characters: Annotated[int, Field(ge=2)] = 60
    """Shortest stretch that counts, all its repetitions together."""
    period: Annotated[int, Field(ge=1)] = 200
    """Longest piece that is looked for, in characters."""

    @override
    def build(self, ctx: FilterContext) -> RowFilter:
        def decide(examples: Sequence[Example]) -> list[str | None]:
            answers = (example.answer() for example in ctx.track(examples, "looking for repetition"))
            return ["says one thing over and over" if self._loops(answer) else None for answer in answers]

        return decide

    def _loops(self, answer: str) -> bool:
        text = " ".join(answer.casefold().split())
        return longest_loop(text, times=self.times, period=self.period) >= self.characters


def longest_loop(text: str, *, times: int, period: int) -> int:
    """Characters of the longest stretch in which a piece of up to `period` characters is said `times` in a row.

    0 where there is none, or where what repeats has no letter in it.
    """
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    longest = 0
    for length in range(1, min(period, len(codes) // times) + 1):
        start, run = longest_run(codes[length:] == codes[:-length])
        if run + length > longest and run + length >= times * length and _has_letter(text[start : start + length]):
            longest = run + length
    return longest


def longest_run(same: NDArray[np.bool_]) -> tuple[int, int]:
    """Where the longest run of True begins, and its length."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], same, [False])).astype(np.int8)))
    if not len(edges):
        return 0, 0
    starts, lengths = edges[::2], edges[1::2] - edges[::2]
    best = int(lengths.argmax())
    return int(starts[best]), int(lengths[best])


def _has_letter(text: str) -> bool:
    return any(map(str.isalpha, text))
