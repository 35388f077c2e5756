"""`near-duplicates`: keep the first of rows that are almost the same.

Near-duplicates are memorised, and a model that is measured on rows like those it has learned looks better than it is
(Lee et al. 2022, arXiv 2107.06499). They are found without comparing each row with each other one: MinHash signatures
name the few pairs that may be alike, and each of those is then compared exactly.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Annotated, Literal, TypeAlias

from pydantic import Field
from typing_extensions import override

from fttool.api import Example, Filter, FilterContext, RowFilter

Part: TypeAlias = Literal["row", "prompt", "answer"]


class NearDuplicates(Filter):
    """Keep the first of rows that are almost the same, and none that is almost an evaluation or retention row.

    Case, white space and the form of accents make no difference. Every dropped row is `threshold` or more alike to one
    that is kept; of pairs just at the threshold one in 10,000 is missed.

    Cost: about 0.2 ms and a kilobyte a row.
    """

    name: Literal["near-duplicates"] = "near-duplicates"
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Jaccard similarity of the shingles, from which on two rows are duplicates: 1 for the same text, 0 for none in
    common. A changed word in a sentence leaves about 0.8."""
    compare: Part = "row"
    """What is compared: all that is said (`row`), what comes before the completion (`prompt`; rows without a prompt are
    kept), or what is learned (`answer`)."""
    shingle: Annotated[int, Field(ge=1, le=64)] = 5
    """Characters of a shingle. Longer ones take texts for more different."""

    @override
    def build(self, ctx: FilterContext) -> RowFilter:
        from fttool_plugins.filter.minhash import near_duplicates

        def decide(examples: Sequence[Example]) -> list[str | None]:
            measured = [compared_text(example, self.compare) for example in ctx.measured_rows]
            texts = [compared_text(example, self.compare) for example in ctx.track(examples, "comparing rows")]
            earlier = near_duplicates([*measured, *texts], self.threshold, self.shingle, ctx.seed)
            return [_reason(first, len(measured), self.compare) for first in earlier[len(measured) :]]

        return decide


def _reason(first: int | None, measured: int, compare: Part) -> str | None:
    if first is None:
        return None
    return f"almost the same {compare} as an {'evaluation' if first < measured else 'earlier'} row"


def compared_text(example: Example, compare: Part) -> str:
    """What is compared of a row, without what makes no difference; empty where the row has no such part."""
    if compare == "answer":
        text = example.answer()
    elif example.messages:
        turns = example.messages[: example.completion_from] if compare == "prompt" else example.messages
        text = "\n".join(str(turn.get("content") or "") for turn in turns)
    else:
        text = "\n".join([example.prompt, example.second, *([] if compare == "prompt" else [example.completion])])
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())
