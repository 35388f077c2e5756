"""Rows that are dropped, bad, changed or flagged, as people see them listed: where each is, why, and how it begins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from fttool.contracts.rows import Example, Reason
from fttool.rows.prompts import expected_answer, question

EXCERPT = 160
"""Characters that are shown of a row."""


@dataclass(frozen=True, slots=True)
class Gone:
    """A row that is not learned from, or not measured on: bad, or dropped."""

    dataset: str
    """Name of its dataset."""
    row: str
    """`file:line` of it."""
    reason: str
    """Why it is dropped, or what is wrong with it."""
    by: str
    """What it was dropped by: a filter's id, or `bad`, `marked`, `length`, `evaluation` or `retention`."""
    excerpt: str
    """How it begins, on one line."""
    like: str = ""
    """`file:line` of the row that it is like, where that is why."""

    @classmethod
    def of(cls, dataset: str, example: Example, reason: str, by: str) -> Self:
        """One that a format could read: its excerpt is the last question, and what is answered."""
        asked, said = question(example), example.answer() if example.labels is None else expected_answer(example)
        shown = excerpt(" → ".join(filter(None, (asked, said))))
        return cls(dataset, example.origin, str(reason), by, shown, reason.like if isinstance(reason, Reason) else "")


@dataclass(frozen=True, slots=True)
class Flagged(Gone):
    """A row that a filter has found something in, and that is kept; its excerpt shows it as it is learned."""

    changed: bool = False
    """True where the filter has changed it."""


def excerpt(text: str) -> str:
    """The beginning of a text, on one line."""
    words = " ".join(text[: 4 * EXCERPT].split())
    return words if len(words) <= EXCERPT else f"{words[: EXCERPT - 1]}…"
