"""`conflicting-labels`: one text with two labels teaches neither.

What is measured on such rows has a ceiling that no model reaches, and which of the labels a row has got is chance.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Literal, TypeAlias

from typing_extensions import override

from fttool.api import Example, Filter, FilterContext, Kept, Reason, RowFilter, Verdict
from fttool_plugins.filter.near_duplicates import normalised

Labels: TypeAlias = tuple[str, ...]

CONFLICT = "same text as a row with another label"


class ConflictingLabels(Filter):
    """Drop or flag rows whose text other rows have with other labels.

    Case, white space and the form of accents make no difference. Of rows with several classes their order makes none;
    where words have classes, one word with another class is a conflict. Rows without classes are kept. Where a class is
    spelled in two ways, `ham` and `Ham`, the rows conflict as well; `fttool validate` names such classes.

    Cost: about 0.02 ms a row.
    """

    name: Literal["conflicting-labels"] = "conflicting-labels"
    action: Literal["drop", "majority", "flag"] = "drop"
    """What becomes of such rows: all of them dropped; those dropped that do not have the label that most of the rows of
    the text have (all of them where two labels are as frequent); or only counted."""

    @override
    def build(self, ctx: FilterContext) -> RowFilter:
        def decide(examples: Sequence[Example]) -> list[Verdict]:
            counts: dict[str, Counter[Labels]] = defaultdict(Counter)
            first: dict[str, dict[Labels, str]] = defaultdict(dict)
            for example in examples:
                if example.labels is not None:
                    text, labels = compared(example)
                    counts[text][labels] += 1
                    first[text].setdefault(labels, example.origin)
            return [self._verdict(example, counts, first) for example in examples]

        return decide

    def _verdict(
        self, example: Example, counts: dict[str, Counter[Labels]], first: dict[str, dict[Labels, str]]
    ) -> Verdict:
        if example.labels is None:
            return None
        text, labels = compared(example)
        if len(counts[text]) == 1 or (self.action == "majority" and majority(counts[text]) == labels):
            return None
        reason = Reason(CONFLICT, like=next(origin for other, origin in first[text].items() if other != labels))
        return Kept(reason) if self.action == "flag" else reason


def compared(example: Example) -> tuple[str, Labels]:
    """The text of a row, and its labels; in an order of their own where they are those of the whole row."""
    labels = example.labels or ()
    text = f"{normalised(example.prompt)}\0{normalised(example.second)}"
    return text, labels if example.words else tuple(sorted(labels))


def majority(counts: Counter[Labels]) -> Labels | None:
    """The labels that most rows have; None where no others are fewer."""
    (most, count), (_, next_count) = counts.most_common(2)
    return most if count > next_count else None
