"""`near-duplicates`: keep the first of rows that are almost the same.

Near-duplicates are memorised, and a model that is measured on rows like those it has learned looks better than it is
(Lee et al. 2022, arXiv 2107.06499). They are found without comparing each row with each other one: MinHash signatures
name the few pairs that may be alike, and each of those is then compared exactly.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import override

from fttool.api import Example, Filter, FilterContext, Kept, Reason, RowFilter, Verdict
from fttool_plugins.filter.parts import Part, part_text


class NearDuplicates(Filter):
    """Keep the first of rows that are almost the same, and none that is almost an evaluation or retention row.

    Rows that `data.eval_share` sets aside are evaluation rows: of a pair on both sides the training row goes.

    Case, white space and the form of accents make no difference. Rows with different classes are different rows, but
    for an evaluation row and a training row. What a template is given beside the turns, such as tools, is not compared.
    Every dropped row is `threshold` or more alike to one that is kept; of pairs just at the threshold one in 10,000 is
    missed.

    Cost: about 0.1 ms a row, and its text and half a kilobyte of memory.
    """

    name: Literal["near-duplicates"] = "near-duplicates"
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Jaccard similarity of the shingles, from which on two rows are duplicates: 1 for the same text, 0 for none in
    common. A changed word in a sentence leaves about 0.8."""
    compare: Part = "row"
    """What is compared: all that is said, calls and thoughts too (`row`), what comes before the completion (`prompt`;
    rows without a prompt are kept), or what is learned (`answer`)."""
    shingle: Annotated[int, Field(ge=1, le=64)] = 5
    """Characters of a shingle. Longer ones take texts for more different."""
    action: Literal["drop", "flag"] = "drop"
    """What becomes of such a row: dropped, or only counted."""

    @override
    def build(self, ctx: FilterContext) -> RowFilter:
        from fttool_plugins.filter.minhash import near_duplicates

        def decide(examples: Sequence[Example]) -> list[Verdict]:
            # What is measured on is not to be learned under another class either: it is compared whatever its class.
            rows = [_Row.of(example, self.compare, 0) for example in ctx.measured_rows]
            rows += [_Row.of(example, self.compare, 1 if ctx.measured(example) else 2) for example in examples]
            order = sorted(range(len(rows)), key=lambda place: rows[place].rank)
            ranked = [rows[place] for place in order]
            earlier = near_duplicates(
                [row.text for row in ranked],
                self.threshold,
                self.shingle,
                ctx.seed,
                apart=[row.classes for row in ranked],
                ranks=[row.rank for row in ranked],
                track=ctx.track,
            )
            verdicts: list[Verdict] = [None] * len(rows)
            for place, row, first in zip(order, ranked, earlier, strict=True):
                if first is not None:
                    reason = _reason(ranked[first], row, self.compare)
                    verdicts[place] = Kept(reason) if self.action == "flag" else reason
            return verdicts[len(ctx.measured_rows) :]

        return decide


@dataclass(frozen=True, slots=True)
class _Row:
    """What is compared of a row."""

    origin: str
    text: str
    classes: tuple[str, ...] | None
    rank: int
    """0 for evaluation and retention rows, 1 for those that are set aside, 2 for those that are learned from."""

    @classmethod
    def of(cls, example: Example, compare: Part, rank: int) -> _Row:
        """One that takes no more memory than its text does."""
        return cls(example.origin, normalised(part_text(example, compare)), classes(example, compare), rank)


def _reason(first: _Row, row: _Row, compare: Part) -> Reason:
    measured = first.rank < row.rank
    which = "evaluation" if measured else "earlier"
    return Reason(f"almost the same {compare} as an {which} row", like=first.origin, severity=float(measured))


def normalised(text: str) -> str:
    """The text without what makes no difference."""
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def classes(example: Example, compare: Part) -> tuple[str, ...] | None:
    """Where whole rows are compared, their classes: a text under another class is another row. None for all others."""
    return None if example.words or compare != "row" else example.labels
