"""The audit's numbers: held to naive twins, to what must come out for rows that are made so, and to `evaluate`."""

from __future__ import annotations

import json
import math
import random
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from fttool.api import Example
from fttool.cli import main
from fttool_plugins.verbs.audit import indicators, ngrams

from ...rows import write_rows
from .test_audit import WORDS, audited, chat, some


def example(prompt: str, answer: str, place: int = 1) -> Example:
    return Example(origin=f"r:{place}", prompt=prompt, completion=answer)


def numbered(pairs: list[tuple[str, str]]) -> list[Example]:
    return [example(prompt, answer, place) for place, (prompt, answer) in enumerate(pairs, start=1)]


def naive_effective_number(texts: list[str]) -> float:
    """From whole matrices, by the definition; terms are texts, not hashes."""
    words = [ngrams.words_of(text) for text in texts]
    terms = [{*one, *(f"{a} {b}" for a, b in pairwise(one))} for one in words]
    known = sorted(set().union(*terms))
    weights = [math.log(1 + len(texts) / sum(term in one for one in terms)) for term in known]
    vectors = np.array([[w if t in one else 0.0 for t, w in zip(known, weights, strict=True)] for one in terms])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    values = np.linalg.eigvalsh(vectors @ vectors.T / len(texts))
    return math.exp(-sum(value * math.log(value) for value in values if value > 1e-12))


def test_the_effective_number_is_that_of_the_definition() -> None:
    texts = [" ".join(random.Random(n).choices(WORDS, k=7)) for n in range(30)]
    assert ngrams.effective_number(ngrams.hashed(texts)) == pytest.approx(naive_effective_number(texts), rel=1e-6)


@pytest.mark.parametrize(
    ("texts", "number"),
    [
        (["the same text"] * 20, 1),
        ([f"word{n} other{n}" for n in range(20)], 20),
        ([f"word{n % 4} other{n % 4}" for n in range(20)], 4),
        ([""] * 2, 2),
    ],
)
def test_the_effective_number_of_rows_that_are_made_so(texts: list[str], number: float) -> None:
    assert ngrams.effective_number(ngrams.hashed(texts)) == pytest.approx(number, rel=1e-3)


def test_the_area_is_a_count_of_pairs() -> None:
    rng = random.Random(5)
    ups, downs = ([rng.randrange(8) for _ in range(40)] for _ in range(2))
    pairs = [(up > down) + (up == down) / 2 for up in ups for down in downs]
    assert ngrams.area_under_curve(np.array(ups), np.array(downs)) == pytest.approx(sum(pairs) / len(pairs))


def test_samples_of_one_source_are_not_told_apart_and_others_are() -> None:
    def told(first: int, second: int, words: tuple[str, ...] = WORDS) -> float:
        sides = [
            [" ".join(random.Random(n).choices(w, k=9)) for n in range(s, s + 300)]
            for s, w in ((first, WORDS), (second, words))
        ]
        return ngrams.told_apart(*map(ngrams.hashed, sides), 0)

    assert told(0, 1000) == pytest.approx(0.5, abs=0.06)
    assert told(0, 1000, ("rate", "yield", "bond", "share", *WORDS)) > 0.75
    assert told(0, 1000, ("rate", "yield", "bond", "share")) == 1.0


def test_representativeness_names_what_tells_the_sides_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "rows.jsonl", some(60))
    write_rows(tmp_path / "same.jsonl", some(60, seed=9))
    write_rows(tmp_path / "other.jsonl", [chat(f"invoice {n} overdue?", "pay it") for n in range(60)])

    def value(sample: str) -> tuple[float, str]:
        named = {one["name"]: one for one in audited(capsys, "rows.jsonl", "--against", sample)["indicators"]}
        return named["representativeness"]["value"], named["representativeness"]["says"]

    assert value("same.jsonl")[0] > 0.7
    share, says = value("other.jsonl")
    assert share < 0.05 and "by their prompts" in says and "invoice" in says.partition("more there")[2]


def test_answers_that_are_unlike_those_to_the_same_prompt() -> None:
    asked = "Which ports does the harbour of Bergen have?"
    answers = ["It has two ports.", "It has two docks.", '{"ports": 2}', "- one\n- two", "It has two. " * 30]
    found = indicators.consistency(
        numbered([(asked, answer) for answer in answers] + [("Something else entirely?", '{"a": 1}')]), 0
    )
    assert found.value == pytest.approx(1 - 3 / 5)
    assert [(one.row, one.reason.split(",")[0]) for one in found.rows] == [
        ("r:3", "JSON"),
        ("r:4", "a list"),
        ("r:5", "360 characters where 17 are usual"),
    ]
    assert all(one.like in ("r:1", "r:2") for one in found.rows)


def test_texts_under_another_class_disagree() -> None:
    text = "The boat is fast and the harbour is near."
    rows = [Example(origin=f"r:{n}", prompt=text, labels=(label,)) for n, label in enumerate(["a", "a", "b"])]
    found = indicators.consistency(rows, 0)
    assert found.value == pytest.approx(2 / 3)
    assert [(one.row, one.reason, one.like) for one in found.rows] == [("r:2", "b where others have a", "r:0")]


def test_without_two_prompts_alike_there_is_no_number() -> None:
    assert indicators.consistency(numbered([("One thing?", "a"), ("A different matter.", "b")]), 0).value is None
    assert indicators.diversity([], 0).value is None
    assert indicators.representativeness(numbered([("a", "b")] * 3), None, 0).value is None


def test_difficulty_is_the_loss_that_evaluate_measures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fttool_tiny_model: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "rows.jsonl", some(8))
    model = str(fttool_tiny_model)
    report = audited(capsys, "rows.jsonl", "--model", model, "--difficulty")
    (hard,) = [one for one in report["indicators"] if one["name"] == "difficulty"]
    assert main(["evaluate", model, "rows.jsonl", "--json"]) == 0
    (measured,) = json.loads(capsys.readouterr().out)["datasets"].values()
    assert hard["value"] == pytest.approx(measured["metrics"]["loss"], abs=1e-5)
