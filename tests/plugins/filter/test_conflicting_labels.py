"""Rows of one text and several labels: all that a comparison of every two rows finds, and no others."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from fttool.api import Example, Kept
from fttool.testing import filter_context, tiny_examples
from fttool_plugins.filter.conflicting_labels import CONFLICT, ConflictingLabels


def row(text: str, *labels: str, second: str = "", origin: str = "r:1") -> Example:
    return Example(origin=origin, prompt=text, second=second, labels=labels)


@pytest.mark.parametrize("action", ["drop", "majority"])
def test_the_rows_are_those_that_comparing_each_with_each_finds(action: str) -> None:
    draw = random.Random(0)
    written = (str.upper, str.lower, lambda text: f"  {text} ", lambda text: text.replace(" ", "\n"))
    rows: list[Example] = []
    for _ in range(300):
        text = draw.choice(written)(f"text {draw.randrange(60)}")
        rows.append(row(text, draw.choice("aaab"), second=draw.choice(["", "two"])))

    def key(example: Example) -> tuple[str, str]:
        return " ".join(example.prompt.lower().split()), example.second

    expected: list[bool] = []
    for one in rows:
        counts = Counter(other.labels for other in rows if key(other) == key(one))
        fewer = any(count >= counts[one.labels] for labels, count in counts.items() if labels != one.labels)
        expected.append(len(counts) > 1 if action == "drop" else fewer)
    found = ConflictingLabels(action=action).build(filter_context())(rows)  # type: ignore[arg-type]
    assert [verdict == CONFLICT for verdict in found] == expected
    assert 10 < sum(expected) < 200


def test_the_order_of_several_classes_is_no_conflict_and_of_words_it_is() -> None:
    several = [row("a b", "x", "y"), row("a b", "y", "x"), row("c d", "x"), row("c d", "x", "y")]
    assert ConflictingLabels().build(filter_context())(several) == [None, None, CONFLICT, CONFLICT]
    words = [
        Example(origin="r:1", prompt="a b", words=((0, 1), (2, 3)), labels=labels)
        for labels in (("x", "y"), ("y", "x"))
    ]
    assert ConflictingLabels().build(filter_context())(words) == [CONFLICT, CONFLICT]


def test_what_conflicts_is_named_and_can_be_flagged() -> None:
    rows = [row("a", "x", origin="r:1"), row("A", "y", origin="r:2"), row("b", "y"), *tiny_examples()]
    found = ConflictingLabels(action="flag").build(filter_context())(rows)
    assert found == [Kept(CONFLICT), Kept(CONFLICT), *[None] * (len(rows) - 2)]
    assert [verdict.reason.like for verdict in found if verdict] == ["r:2", "r:1"]  # type: ignore[union-attr]
