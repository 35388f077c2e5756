"""Spellings of one class are found, planted ones all and no others, and become the class that was meant."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Callable, Sequence

import pytest

from fttool.api import Example, Kept
from fttool.testing import filter_context, tiny_examples
from fttool_plugins.filter.class_names import ClassNames

CLASSES = ("spam", "ham", "Straße 4", "not junk", "café", "c", "c++", "c#", "class1", "class2", "jam", "-1", "1")
WRITTEN: tuple[Callable[[str], str], ...] = (
    str.upper,
    str.title,
    lambda name: f" {name}.",
    lambda name: name.replace(" ", "_"),
    lambda name: unicodedata.normalize("NFD", name),
    lambda name: "".join(chr(ord(one) + 0xFEE0) if "!" <= one <= "~" else one for one in name),
)
SLIPS = {"spam": ("sapm", "spamm", "spem"), "not junk": ("not jnuk", "no junk"), "café": ("caffé",)}


def row(*labels: str, origin: str = "r:1") -> Example:
    return Example(origin=origin, prompt="a text", labels=labels)


def planted(seed: int) -> tuple[list[Example], list[str]]:
    """Rows of many classes, a tenth of them spelled in another way, and the class that each is of."""
    draw = random.Random(seed)
    rows: list[Example] = []
    truth: list[str] = []
    for number in range(1500):
        name = draw.choice(CLASSES)
        written = name
        if draw.random() < 0.1:
            written = (
                draw.choice(WRITTEN)(name) if name not in SLIPS or draw.random() < 0.7 else draw.choice(SLIPS[name])
            )
        truth.append(name)
        rows.append(row(written, origin=f"r:{number}"))
    return rows, truth


@pytest.mark.parametrize("seed", range(3))
def test_every_planted_spelling_becomes_the_class_that_was_meant(seed: int) -> None:
    rows, truth = planted(seed)
    wrong = [example.labels != (name,) for example, name in zip(rows, truth, strict=True)]
    assert 60 < sum(wrong) < 200
    found = ClassNames().build(filter_context())(rows)
    assert [verdict is not None for verdict in found] == wrong
    for verdict, name in zip(found, truth, strict=True):
        if verdict is not None:
            assert isinstance(verdict, Kept) and verdict.example is not None and verdict.example.labels == (name,)
            assert rows[int(verdict.reason.like.partition(":")[2])].labels == (name,)  # type: ignore[union-attr]
            assert len(verdict.reason) <= 80


def said(rows: Sequence[Example], **options: object) -> list[bool]:
    return [verdict is not None for verdict in ClassNames(**options).build(filter_context())(rows)]  # type: ignore[arg-type]


def test_a_slip_is_rare() -> None:
    """Two frequent classes that differ by a letter are two; and with `slips = 0` all are."""
    both = [row("causal")] * 20 + [row("casual")] * 10
    assert not any(said(both))
    assert said([*both[:20], row("casual")]) == [False] * 20 + [True]
    assert not any(said([*both[:20], row("casual")], slips=0)) and said(both, slips=1) == [False] * 20 + [True] * 10
    assert said([row("Causal")] * 20 + [row("cuasal")]) == [False] * 20 + [True]  # case makes no difference here either


def test_evaluation_rows_keep_their_spelling() -> None:
    rows = [row("Spam"), row("Spam"), row("spam"), row("ham")]
    found = ClassNames().build(filter_context(measured_rows=[row("spam")]))(rows)
    assert [one.example.labels if one else None for one in found] == [("spam",), ("spam",), None, None]  # type: ignore[union-attr]
    rare = ClassNames().build(filter_context(measured_rows=[row("sapm")]))([*[row("spam")] * 20, row("sapm")])
    assert rare == [None] * 21


def test_classes_of_words_have_no_slips_and_a_row_has_each_class_once() -> None:
    words = ((0, 1), (2, 6))
    tagged = [Example(origin="r:1", prompt="a text", words=words, labels=("B-PER", "I-PER"))] * 20
    odd = Example(origin="r:2", prompt="a text", words=words, labels=("b-per", "B-PER"))
    found = ClassNames().build(filter_context())([*tagged, odd, Example(origin="r:3", prompt="", labels=("O",))])
    assert found[:20] == [None] * 20 and found[20].example.labels == ("B-PER", "B-PER")  # type: ignore[union-attr]
    (*_, verdict) = ClassNames().build(filter_context())([row("x", "y"), row("x", "y"), row("X", "x")])
    assert isinstance(verdict, Kept) and verdict.example is not None and verdict.example.labels == ("x",)


def test_rows_can_be_dropped_or_flagged_and_rows_without_classes_are_kept() -> None:
    rows = [row("spam"), row("spam"), row("SPAM"), row(), *tiny_examples()]
    reason = "its class 'SPAM' looks like 'spam'"
    for action, verdict in (("drop", reason), ("flag", Kept(reason))):
        found = ClassNames(action=action).build(filter_context())(rows)  # type: ignore[arg-type]
        assert found == [None, None, verdict, *[None] * (len(rows) - 3)]
