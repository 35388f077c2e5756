"""Rows that are almost the same: held to a comparison of all pairs with Python's sets."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from tomli_w import dumps

from fttool.api import Example, FilterContext, Kept
from fttool.recipe.reading import load
from fttool.rows.data import prepare
from fttool.testing import filter_context, tiny_tokenizer
from fttool_plugins.filter import minhash
from fttool_plugins.filter.minhash import (
    CHARACTERS,
    HASHES,
    all_signatures,
    band_width,
    banded,
    hashed_shingles,
    near_duplicates,
    shared_buckets,
    signatures,
)
from fttool_plugins.filter.near_duplicates import NearDuplicates

from ...rows import write_rows

TO_EVALUATION = "almost the same row as an evaluation row"
WORDS = [
    "apple",
    "river",
    "stone",
    "cloud",
    "paper",
    "green",
    "silver",
    "window",
    "garden",
    "music",
    "winter",
    "bridge",
    "candle",
    "forest",
    "mirror",
]


def row(answer: str, question: str = "Why?") -> Example:
    turns = ({"role": "user", "content": question}, {"role": "assistant", "content": answer})
    return Example(origin="rows.jsonl:1", messages=turns, completion_from=1)


def similarity(one: str, other: str, size: int = 5) -> float:
    sets = [{text[place : place + size] for place in range(max(1, len(text) - size + 1))} for text in (one, other)]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def naive(texts: Sequence[str], threshold: float, size: int = 5) -> list[int | None]:
    """The first earlier text that is kept and as alike, of all pairs."""
    first: list[int | None] = []
    for index, text in enumerate(texts):
        kept = (other for other in range(index) if first[other] is None)
        first.append(next((other for other in kept if similarity(texts[other], text, size) >= threshold), None))
    return first


def planted(seed: int, count: int = 60, copies: int = 3) -> list[str]:
    """Sentences, and copies of them with none to six words changed."""
    draw = random.Random(seed)
    texts: list[str] = []
    for _ in range(count):
        words = draw.choices(WORDS, k=draw.randint(12, 30))
        texts.append(" ".join(words))
        for _ in range(copies):
            changed = list(words)
            for _ in range(draw.randint(0, 6)):
                changed[draw.randrange(len(changed))] = draw.choice(WORDS)
            texts.append(" ".join(changed))
    draw.shuffle(texts)
    return texts


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.8, 0.9, 1.0])
def test_the_same_rows_are_dropped_as_by_comparing_all_pairs(threshold: float) -> None:
    for seed in range(3):
        texts = planted(seed)
        expected = naive(texts, threshold)
        assert near_duplicates(texts, threshold, 5, seed) == expected
        assert 0 < sum(first is not None for first in expected) < len(texts) - 10


@pytest.mark.parametrize("size", [1, 3, 9])
def test_shingles_are_the_different_pieces_of_a_text(size: int) -> None:
    for text in (*planted(5)[:40], "a", "aaaaaaaaaa", "naïve café 你好，世界 👋🏽", "\ud800 alone"):
        pieces = {text[place : place + size] for place in range(max(1, len(text) - size + 1))}
        assert len(hashed_shingles(text, size)) == len(pieces)


def test_a_pair_at_the_threshold_is_hardly_ever_missed() -> None:
    """Sets with a similarity of exactly 2/3, over a thousand seeds: the bands of that threshold name each pair."""
    draw = np.random.default_rng(0)
    missed = 0
    for seed in range(1000):
        common, mine, yours = np.split(draw.integers(2**64, size=300, dtype=np.uint64), [200, 250])
        pair = np.concatenate([common, mine, common, yours])
        one, other = banded(signatures(pair, np.array([0, 250]), seed), band_width(2 / 3))
        missed += not (one == other).any()
    assert missed <= 2


def test_what_shares_a_band_by_chance_is_hardly_ever_compared_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long texts of few words are somewhat alike, each to each; exact comparisons are as many as there are copies."""
    draw, compared = random.Random(8), list[int]()
    texts = [" ".join(draw.choices(WORDS, k=60)) for _ in range(200)]
    texts += [f"{text} indeed" for text in texts[:20]]
    exact = minhash.jaccard
    monkeypatch.setattr(minhash, "jaccard", lambda *given: compared.append(1) or exact(*given))
    found = near_duplicates(texts, 0.8, 5, 0)
    assert found == naive(texts, 0.8) and found[200:] == list(range(20))
    shared = sum(len(buckets) for _, buckets in shared_buckets(banded(all_signatures(texts, 5, 0, untracked), 5)))
    assert len(compared) < 60 and shared > 1000, (len(compared), shared)


def untracked(items: Sequence[object], what: str) -> Sequence[object]:
    return items


def test_signatures_estimate_the_similarity() -> None:
    texts = planted(7)
    shingles = [hashed_shingles(text, 5) for text in texts]
    starts = np.cumsum([0, *map(len, shingles[:-1])])
    made = signatures(np.concatenate(shingles), starts, seed=3)
    pairs = [(a, b) for a in range(0, len(texts), 3) for b in range(a)]
    errors = [float((made[a] == made[b]).mean()) - similarity(texts[a], texts[b]) for a, b in pairs]
    assert np.sqrt(np.mean(np.square(errors))) < 0.5 / np.sqrt(HASHES) + 0.01


def test_wider_bands_serve_higher_thresholds() -> None:
    widths = [band_width(threshold) for threshold in (0.1, 0.3, 0.5, 0.8, 0.9, 0.99, 1.0)]
    assert widths == sorted(widths) and widths[0] == 1 and widths[-1] == 32


def test_case_space_and_the_form_of_accents_make_no_difference() -> None:
    text = "The café serves coffee, and naïve questions are answered there every day."
    others = [text.upper(), f"  {text}\n\n", text.replace(" ", "\u00a0"), unicodedata.normalize("NFD", text)]
    verdicts = NearDuplicates(threshold=1.0).build(filter_context())([row(text), *map(row, others)])
    assert verdicts == [None, *["almost the same row as an earlier row"] * len(others)]


def test_what_is_compared_can_be_chosen() -> None:
    same_answer = [
        row("It is because of the tides and the moon.", ask) for ask in ("Why?", "Tell me about the sea, please.")
    ]
    same_prompt = [
        row(answer, "How high is the tower of the old town?") for answer in ("Ninety metres.", "Quite high!")
    ]
    for compare, dropped in (("answer", [same_answer]), ("prompt", [same_prompt]), ("row", [])):
        decide = NearDuplicates(compare=compare).build(filter_context())  # type: ignore[arg-type]
        for pair in (same_answer, same_prompt):
            assert (decide(pair)[1] is not None) == (pair in dropped), (compare, pair)


def test_rows_that_are_measured_on_are_not_learned_in_other_words() -> None:
    evaluated = row("`math.gcd(*integers)` is the greatest common divisor of the integers.")
    learned = [
        row("`math.gcd(*integers)` is a greatest common divisor of the integers."),
        row("Something else entirely."),
    ]
    decide = NearDuplicates().build(filter_context(measured_rows=[evaluated]))
    assert decide(learned) == ["almost the same row as an evaluation row", None]


def set_aside(*rows: Example) -> FilterContext:
    """A context in which these rows are set aside to be measured on."""
    origins = {one.origin for one in rows}
    return filter_context(measured=lambda example: example.origin in origins)


def test_of_a_pair_on_both_sides_of_the_evaluation_share_the_training_row_goes() -> None:
    """Wherever it stands, and whatever its class; two rows of one side are compared as rows of one dataset are."""
    text = "The plot is thin and the acting is wooden, said the critic of the paper."

    def labelled(number: int, words: str, label: str) -> Example:
        return Example(origin=f"r:{number}", prompt=words, labels=(label,))

    rows = [
        labelled(1, text, "bad"),
        labelled(2, f"{text}.", "good"),
        labelled(3, text, "good"),
        labelled(4, f"{text}!", "bad"),
        labelled(5, "Something else entirely.", "bad"),
    ]
    found = NearDuplicates().build(set_aside(rows[1], rows[3], rows[4]))(rows)
    assert found == [TO_EVALUATION, None, TO_EVALUATION, None, None]
    assert [one.like for one in found if one] == ["r:2", "r:2"]  # type: ignore[union-attr]
    twice = [labelled(1, text, "bad"), labelled(2, text, "bad")]
    assert NearDuplicates().build(set_aside(*twice))(twice) == [None, "almost the same row as an earlier row"]


def test_what_is_measured_is_compared_though_it_resembles_another_row_that_is() -> None:
    """A row like the second of two evaluation rows that are like each other, and not like the first."""
    words = [f"word{number}" for number in range(30)]
    first, second, third = (" ".join(["x"] * count + words[count:]) for count in (0, 4, 8))
    assert similarity(first, second) >= 0.8 <= similarity(second, third) and similarity(first, third) < 0.8
    decide = NearDuplicates(compare="answer").build(filter_context(measured_rows=[row(first), row(second)]))
    assert decide([row(third)]) == ["almost the same answer as an evaluation row"]


@pytest.mark.parametrize("seed", range(3))
def test_no_near_copy_crosses_the_evaluation_share(seed: int, tmp_path: Path) -> None:
    """After all of a run's stages, held to a comparison of each training row with each evaluation row."""
    texts = planted(seed, count=40)
    write_rows(tmp_path / "rows.jsonl", ({"text": text} for text in texts))
    recipe = {
        "recipe": 1,
        "run": {"seed": seed},
        "model": {"source": "builtin:tiny-chat"},
        "data": {"train": [{"path": "rows.jsonl", "format": "text"}], "eval_share": 0.3},
        "masking": "all",
        "filters": ["near-duplicates"],
    }
    (tmp_path / "recipe.toml").write_text(dumps(recipe))
    rows = prepare(load(tmp_path / "recipe.toml"), tiny_tokenizer())
    lines = [[texts[int(one.rsplit(":", 1)[1]) - 1] for one in part.origins] for part in (rows.train, rows.eval)]
    assert len(lines[1]) > 5 and rows.dropped["almost the same row as an evaluation row"] > 5
    assert all(similarity(learned, measured) < 0.8 for learned in lines[0] for measured in lines[1])


def test_rows_without_the_part_that_is_compared_are_kept() -> None:
    rows = [Example(origin="r:1", completion="the same text"), Example(origin="r:2", completion="the same text")]
    assert NearDuplicates(compare="prompt").build(filter_context())(rows) == [None, None]
    assert NearDuplicates().build(filter_context())(rows)[1] is not None
    assert NearDuplicates().build(filter_context())([]) == []


def test_a_text_of_all_one_character_is_compared_too() -> None:
    assert near_duplicates(["aaaa" * 50, "aaaa" * 60, "b", "b", "", ""], 0.8, 5, 0) == [None, 0, None, 2, None, None]


def test_calls_tell_rows_apart_and_make_them_alike() -> None:
    def calling(name: str, city: str) -> Example:
        call = {"type": "function", "function": {"name": name, "arguments": {"place": city, "unit": "degrees Celsius"}}}
        question = {"role": "user", "content": "How is the weather?"}
        turns = (question, {"role": "assistant", "content": None, "tool_calls": [call]})
        return Example(origin="rows.jsonl:1", messages=turns, completion_from=1)

    rows = [calling("current_weather", "Paris"), calling("forecast_of_next_week", "Buenos Aires and Montevideo")]
    for compare in ("row", "answer"):
        decide = NearDuplicates(compare=compare).build(filter_context())  # type: ignore[arg-type]
        assert decide([*rows, rows[0]]) == [None, None, f"almost the same {compare} as an earlier row"]


def test_rows_with_other_classes_are_other_rows() -> None:
    def labelled(label: str) -> Example:
        return Example(origin="r:1", prompt="The plot is thin and the acting is wooden.", labels=(label,))

    bad, good = labelled("bad"), labelled("good")
    verdicts = NearDuplicates().build(filter_context())([bad, good, bad])
    assert verdicts == [None, None, "almost the same row as an earlier row"]
    assert NearDuplicates(compare="prompt").build(filter_context())([bad, good])[1] is not None
    assert NearDuplicates().build(filter_context(measured_rows=[bad]))([good]) != [None]


def test_progress_is_of_what_takes_long() -> None:
    seen: list[tuple[int, str]] = []

    def track(items: Sequence[int], what: str) -> Sequence[int]:
        seen.append((len(items), what))
        return items

    near_duplicates(["a b c", "d" * CHARACTERS, "e f"], 0.8, 5, 0, track=track)  # type: ignore[arg-type]
    assert seen == [(2, "comparing rows")]  # pieces of work


def test_duplicates_can_be_flagged() -> None:
    found = NearDuplicates(action="flag").build(filter_context())([row("The same text."), row("The same text. ")])
    assert found == [None, Kept("almost the same row as an earlier row")]
