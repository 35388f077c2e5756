"""Entities of tags, and the numbers made of them: against a regular expression, a naive twin and seqeval's values."""

from __future__ import annotations

import random
import re

import pytest
import torch

from fttool.api import MetricContext, Predictions, RecipeError
from fttool_plugins.metric.entity_f1 import EntityF1
from fttool_plugins.metric.entity_precision import EntityPrecision
from fttool_plugins.metric.entity_recall import EntityRecall
from fttool_plugins.task.entities import Entity, entities

SCHEMES = {
    "IOB2, followed or not": ("O", "B-x", "I-x", "B-y", "I-y"),
    "IOBES, followed or not": ("O", "B-x", "I-x", "E-x", "S-x", "B-y-z", "I-y-z", "E-y-z", "S-y-z"),
    "without kinds": ("O", "B", "I"),
}


def by_pattern(tags: list[str]) -> set[Entity]:
    """Of each kind, what a pattern finds in a text of its letters; a word of another kind is `.` there."""
    found: set[Entity] = set()
    for kind in {tag.partition("-")[2] or "_" for tag in tags if tag != "O"}:
        letters = "".join(tag[0] if tag != "O" and (tag.partition("-")[2] or "_") == kind else "." for tag in tags)
        found |= {Entity(kind, one.start(), one.end() - 1) for one in re.finditer(r"[BI]I*E?|[ES]", letters)}
    return found


@pytest.mark.parametrize("scheme", SCHEMES)
def test_entities_are_those_of_a_pattern(scheme: str) -> None:
    draw = random.Random(scheme)
    for _ in range(3000):
        tags = draw.choices(SCHEMES[scheme], k=draw.randrange(9))
        found = entities(tags)
        assert set(found) == by_pattern(tags) and len(set(found)) == len(found), tags
        assert found == sorted(found, key=lambda one: one.first)


def test_some_by_hand() -> None:
    assert entities(["B-PER", "I-PER", "O", "B-LOC"]) == [("PER", 0, 1), ("LOC", 3, 3)]
    assert entities(["O", "I-PER", "I-PER", "B-PER"]) == [("PER", 1, 2), ("PER", 3, 3)]
    assert entities(["B-LOC", "I-PER", "NOUN"]) == [("LOC", 0, 0), ("PER", 1, 1)]
    assert entities(["B-a-b", "I-a-b", "I-a"]) == [("a-b", 0, 1), ("a", 2, 2)]


TRUE = ["B-PER I-PER O B-LOC", "O I-PER I-PER B-PER", "S-LOC B-ORG I-ORG E-ORG O", "B-LOC I-PER O", "O O"]
PREDICTED = ["B-PER I-PER O I-LOC", "O B-PER I-PER I-PER", "S-LOC B-ORG E-ORG I-ORG O", "B-LOC B-PER I-PER", "O O"]
NAMES = tuple(sorted({tag for some in (*TRUE, *PREDICTED) for tag in some.split()}))


def said(true: list[str], predicted: list[str], rows: list[int] | None = None) -> Predictions:
    """What a model says of the words of sentences, one after the other."""
    right = [NAMES.index(tag) for some in true for tag in some.split()]
    guess = torch.tensor([NAMES.index(tag) for some in predicted for tag in some.split()])
    rows_N = torch.tensor(rows or [row for row, some in enumerate(true) for _ in some.split()])
    logits_NV = torch.nn.functional.one_hot(guess, len(NAMES)) * 4.0
    targets_N = torch.tensor(right)
    return Predictions(logits_NV=logits_NV, targets_N=targets_N, losses_N=torch.zeros(len(right)), rows_N=rows_N)


def test_numbers_are_seqevals() -> None:
    # seqeval 1.2.2: precision_score, recall_score, f1_score, and f1_score(average=None) of these sentences
    context, seen = MetricContext(labels=NAMES), said(TRUE, PREDICTED)
    for metric, value in ((EntityPrecision(), 0.5), (EntityRecall(), 0.5), (EntityF1(), 0.5)):
        measure = metric.build(context)
        assert measure.value(measure.statistics(seen)) == value
    measure = EntityF1().build(context)
    assert measure.details is not None
    assert measure.details(measure.statistics(seen)) == {
        "per entity": [
            ["entity", "precision", "recall", "f1", "entities"],
            ["LOC", 1.0, 1.0, 1.0, 3],
            ["ORG", 0.0, 0.0, 0.0, 1],
            ["PER", 0.3333, 0.25, 0.2857, 4],
        ]
    }


def test_numbers_are_those_of_a_naive_twin() -> None:
    """On sentences drawn at random, in micro-batches: over all entities, not a mean of the batches' means."""
    draw = random.Random(5)
    names = SCHEMES["IOBES, followed or not"]
    context = MetricContext(labels=names)
    sentences = [[(draw.choice(names), draw.choice(names)) for _ in range(draw.randrange(1, 12))] for _ in range(200)]
    right = guessed = wanted = 0
    for words in sentences:
        found, true = by_pattern([one for one, _ in words]), by_pattern([one for _, one in words])
        right, guessed, wanted = right + len(found & true), guessed + len(found), wanted + len(true)
    expected = {
        EntityPrecision(): right / guessed,
        EntityRecall(): right / wanted,
        EntityF1(): 2 * right / (guessed + wanted),
    }
    for metric, value in expected.items():
        measure = metric.build(context)
        total = torch.zeros(6, dtype=torch.float64)
        for start in range(0, 200, 16):
            batch = [(row, *word) for row, words in enumerate(sentences[start : start + 16]) for word in words]
            logits_NV = torch.eye(len(names))[[names.index(guess) for _, guess, _ in batch]]
            targets_N = torch.tensor([names.index(true) for _, _, true in batch])
            rows_N = torch.tensor([row for row, _, _ in batch])
            total += measure.statistics(
                Predictions(logits_NV=logits_NV, targets_N=targets_N, losses_N=torch.zeros(len(batch)), rows_N=rows_N)
            )
        assert measure.value(total) == pytest.approx(value, rel=1e-12)


def test_an_entity_ends_with_its_sentence() -> None:
    apart, together = said(["B-PER", "I-PER"], ["B-PER", "I-PER"]), said(["B-PER", "I-PER"], ["B-PER", "I-PER"], [0, 0])
    measure = EntityRecall().build(MetricContext(labels=NAMES))
    counts = [measure.statistics(seen).view(3, -1).sum(1).tolist() for seen in (apart, together)]
    assert counts == [[2, 2, 2], [1, 1, 1]]


def test_where_there_is_no_entity_the_numbers_are_0() -> None:
    measure = EntityF1().build(MetricContext(labels=NAMES))
    assert measure.value(measure.statistics(said(["O O"], ["O O"]))) == 0.0


def test_tags_of_another_kind_have_other_metrics() -> None:
    with pytest.raises(RecipeError, match=r"needs tags of entities .* and the rows have 'NOUN'") as refused:
        EntityF1().build(MetricContext(labels=("NOUN", "VERB")))
    assert 'evaluation.metrics = ["accuracy"' in refused.value.problems[0].hint
