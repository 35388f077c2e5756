"""Planted label errors are found: precision, recall, and the accuracy that comes back."""

from __future__ import annotations

import random

import pytest
import torch

from fttool.api import Example, Kept
from fttool.testing import filter_context, tiny_examples
from fttool_plugins.filter import text_classifier
from fttool_plugins.filter.confident_learning import suspects
from fttool_plugins.filter.label_errors import LabelErrors
from fttool_plugins.filter.text_classifier import (
    Sparse,
    counted_words,
    features,
    fitted,
    held_out_probabilities,
)

TOPICS = {
    "sea": "wave ship sail harbour tide salt storm deck anchor gull",
    "wood": "tree leaf branch moss path fern owl root bark deer",
    "town": "street tram market bridge square cafe crowd lamp shop tower",
}
COMMON = ("the a of and on in with it was is were there old new small near under by").split()  # noqa: SIM905


def texts(count: int, seed: int) -> list[tuple[str, str]]:
    """Texts whose topic shows in about one word of five; some have a word of another one."""
    draw = random.Random(seed)
    made: list[tuple[str, str]] = []
    for _ in range(count):
        topic = draw.choice(list(TOPICS))
        words = draw.choices(COMMON, k=16) + draw.choices(TOPICS[topic].split(), k=4)
        words += draw.choices(TOPICS[draw.choice(list(TOPICS))].split(), k=1)
        draw.shuffle(words)
        made.append((" ".join(words), topic))
    return made


def flipped(rows: list[tuple[str, str]], rate: float, seed: int) -> tuple[list[Example], set[int]]:
    draw = random.Random(seed)
    wrong = set(draw.sample(range(len(rows)), round(rate * len(rows))))
    examples = [
        Example(
            origin=f"r:{n}",
            prompt=text,
            labels=(draw.choice([other for other in TOPICS if other != topic]) if n in wrong else topic,),
        )
        for n, (text, topic) in enumerate(rows)
    ]
    return examples, wrong


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.2])
def test_planted_errors_are_found_and_mended(rate: float) -> None:
    rows = texts(300, seed=1)
    examples, wrong = flipped(rows, rate, seed=2)
    found = LabelErrors(action="relabel").build(filter_context())(examples)
    suspected = {n for n, verdict in enumerate(found) if verdict is not None}
    assert len(suspected & wrong) >= 0.8 * len(wrong) and len(suspected & wrong) >= 0.8 * len(suspected)
    mended = [
        verdict.example if isinstance(verdict, Kept) else one for verdict, one in zip(found, examples, strict=True)
    ]
    right = sum(one is not None and one.labels == (topic,) for one, (_, topic) in zip(mended, rows, strict=True))
    assert right >= (1 - 0.35 * rate) * len(rows)


def test_the_accuracy_comes_back() -> None:
    """A classifier that learns from what is kept is right more often on new rows than one that learns from all."""
    names, test = list(TOPICS), texts(200, seed=9)
    examples, _ = flipped(texts(300, seed=1), 0.3, seed=2)
    verdicts = LabelErrors().build(filter_context())(examples)
    kept = [one for one, verdict in zip(examples, verdicts, strict=True) if verdict is None]

    def accuracy(rows: list[Example]) -> float:
        x = features([counted_words(text) for text in (*(one.prompt for one in rows), *(text for text, _ in test))])
        learned = torch.arange(len(rows) + len(test)) < len(rows)
        weights = fitted(x.of(learned), torch.tensor([names.index((one.labels or ("",))[0]) for one in rows]), 3)
        predicted = x.of(~learned).times(weights, len(test)).argmax(1)
        return sum(names[k] == topic for k, (_, topic) in zip(predicted.tolist(), test, strict=True)) / len(test)

    assert accuracy(kept) > accuracy(examples) + 0.01


def test_suspects_are_those_of_the_papers_definition() -> None:
    draw = torch.Generator().manual_seed(0)
    probabilities = torch.rand(200, 4, generator=draw, dtype=torch.float64).softmax(1)
    given = torch.randint(4, (200,), generator=draw)
    means = [float(probabilities[given == k, k].mean()) for k in range(4)]
    for confidence in (1.0, 0.8):
        expected: list[int] = []
        for row, label in zip(probabilities.tolist(), given.tolist(), strict=True):
            over = [k for k in range(4) if row[k] >= means[k] * confidence]
            best = max(over, key=lambda k: row[k], default=label)
            expected.append(best if best != label and row[best] > row[label] else -1)
        assert suspects(probabilities, given, confidence).tolist() == expected
        assert set(expected) == {-1, 0, 1, 2, 3}


def test_the_regression_is_that_of_a_dense_twin() -> None:
    x = features([counted_words(text) for text, _ in texts(60, seed=3)])
    dense = torch.zeros(60, x.width, dtype=torch.float64)
    dense[x.rows, x.columns] = x.values
    assert torch.allclose(dense.norm(dim=1), torch.ones(60, dtype=torch.float64))
    y = torch.arange(60) % 3
    weights = fitted(x, y, 3)
    assert torch.allclose(x.times(weights, 60), dense @ weights)
    assert torch.allclose(x.transposed_times(dense[:, :3]), dense.T @ dense[:, :3])
    half = torch.arange(60) % 2 == 0
    assert torch.allclose(x.of(half).times(weights, 30), dense[half] @ weights)
    twin = weights.clone().requires_grad_()
    loss = torch.nn.functional.cross_entropy(dense @ twin, y) + 5e-4 * (twin**2).sum()
    loss.backward()
    assert isinstance(x, Sparse) and twin.grad is not None and float(twin.grad.abs().max()) < 1e-3


def test_no_row_is_judged_by_what_has_learned_from_it() -> None:
    """A text with a label of its own that no other row explains has never been seen with it."""
    rows = [(f"word{n} common", n % 2) for n in range(40)]
    counted = [counted_words(text) for text, _ in rows]
    probabilities = held_out_probabilities(counted, [k for _, k in rows], 4, seed=0)
    assert float((probabilities - 0.5).abs().max()) < 0.2


def test_of_many_rows_a_sample_is_learned_from_and_all_are_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rare classes keep some rows, and products that are made in parts are the same."""
    rows = texts(400, seed=7)
    examples, wrong = flipped(rows, 0.1, seed=8)
    whole = LabelErrors().build(filter_context())(examples)
    monkeypatch.setattr(text_classifier, "AT_ONCE", 50)
    assert LabelErrors().build(filter_context())(examples) == whole
    monkeypatch.setattr(text_classifier, "LEARNED", 150)
    monkeypatch.setattr(text_classifier, "FEWEST", 20)
    found = {n for n, verdict in enumerate(LabelErrors().build(filter_context())(examples)) if verdict is not None}
    assert found != {n for n, verdict in enumerate(whole) if verdict is not None}
    assert len(found & wrong) >= 0.7 * len(wrong) and len(found & wrong) >= 0.7 * len(found)
    order, y = torch.arange(400).flip(0), torch.tensor([0] * 390 + [1] * 10)
    chosen = text_classifier._learned(order, y)
    assert int(chosen[:390].sum()) == round(150 * 390 / 400) and bool(chosen[390:].all())


def test_other_rows_are_kept_and_suspects_can_be_flagged() -> None:
    examples, wrong = flipped(texts(120, seed=4), 0.1, seed=5)
    others = [
        Example(origin="r:1", prompt="wave ship", labels=("sea", "wood")),
        Example(origin="r:2", prompt="wave ship", labels=("rare",)),
        Example(origin="r:3", prompt="wave ship", words=((0, 4),), labels=("wood",)),
        Example(origin="r:4", prompt="wave ship", labels=()),
        *tiny_examples(),
    ]
    found = LabelErrors(action="flag").build(filter_context())([*others, *examples])
    assert found[: len(others)] == [None] * len(others)
    flags = {n for n, verdict in enumerate(found[len(others) :]) if verdict == Kept("its label looks wrong")}
    assert len(flags & wrong) >= 8
    numbers = [Example(origin="r:1", prompt=text, labels=(str(n),)) for n, (text, _) in enumerate(texts(20, seed=6))]
    assert LabelErrors().build(filter_context())(numbers) == [None] * 20
    assert LabelErrors().build(filter_context())(tiny_examples()) == [None] * len(tiny_examples())


def test_texts_that_share_no_word_are_kept() -> None:
    rows = [Example(origin=f"r:{n}", prompt=f"word{n}" * (n > 2), labels=("ab"[n % 2],)) for n in range(20)]
    assert LabelErrors().build(filter_context())(rows) == [None] * 20
