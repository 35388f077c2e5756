"""`fttool predict` for a model of words: spans of texts, lines, rows and CoNLL files."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForTokenClassification, AutoTokenizer

from fttool.cli import main
from fttool.testing import RunResult, run_recipe

from ...encoder import save_encoder
from ...runs import as_json


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """A letter in front of `x` is a person, `y` a place; rows are a CoNLL file, and are cut at 6 tokens."""
    folder, draw = tmp_path_factory.mktemp("words"), random.Random(0)
    kinds = (("a\tB-PER\nx\tI-PER", "b\tB-PER\nx\tI-PER"), ("y\tB-LOC",), ("d\tO", "e\tO"))
    sentences = ["\n".join(draw.choice(draw.choice(kinds)) for _ in range(draw.randrange(2, 4))) for _ in range(60)]
    (folder / "rows.conll").write_text("\n\n".join(sentences))
    recipe = {
        "recipe": 1,
        "task": "token-classification",
        "run": {"max_steps": 20, "micro_batch": 8},
        "model": {"source": str(save_encoder(folder / "encoder"))},
        "data": {"train": [{"path": "rows.conll"}]},
        "batching": {"name": "padded", "max_length": 6},
        "optimizer": {"name": "adamw", "lr": 1e-2},
        "precision": "fp32",
    }
    run = run_recipe(recipe, folder)
    assert run.error is None, run.error
    return run


def pieces(spans: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(one["text"], one["label"]) for one in spans]


def test_texts(finished: RunResult, capfd: pytest.CaptureFixture[str]) -> None:
    texts = ["e a x e", "y", "d e"]
    answers = as_json(capfd, "predict", finished.run_dir, *(word for text in texts for word in ("--text", text)))
    assert [answer["text"] for answer in answers] == texts
    assert [pieces(answer["spans"]) for answer in answers] == [[("a x", "PER")], [("y", "LOC")], []]
    assert answers[0]["spans"][0] == {"text": "a x", "label": "PER", "start": 2, "end": 5}
    capfd.readouterr()
    assert main(["predict", str(finished.run_dir), "--text", "e a x e"]) == 0
    assert capfd.readouterr().out == "a x [PER]  e a x e\n"


def test_spans_are_pieces_of_the_text_as_it_was_given(finished: RunResult, capfd: pytest.CaptureFixture[str]) -> None:
    """Words are read without the punctuation that clings to them, and found where they stand."""
    text = "  y, (a  x) e!"
    (answer,) = as_json(capfd, "predict", finished.run_dir, "--text", text)
    assert answer["text"] == text
    assert all(text[one["start"] : one["end"]] == one["text"] for one in answer["spans"])
    assert ("y", "LOC") in pieces(answer["spans"]) and ("a  x", "PER") in pieces(answer["spans"])


def test_long_texts_lose_nothing(finished: RunResult, capfd: pytest.CaptureFixture[str]) -> None:
    """Training cuts at 6 tokens, 4 words; each part of a text is tagged as transformers tags it alone."""
    words = ["e", "y", "d", "y"] * 5
    (answer,) = as_json(capfd, "predict", finished.run_dir, "--text", " ".join(words))
    folder = str(finished.run_dir / "model")
    model, tokenizer = (
        AutoModelForTokenClassification.from_pretrained(folder).eval(),
        AutoTokenizer.from_pretrained(folder),
    )
    with torch.no_grad():
        numbers = model(**tokenizer("e y d y", return_tensors="pt")).logits[0, 1:-1].argmax(-1).tolist()
    assert [model.config.id2label[number] for number in numbers] == ["O", "B-LOC", "O", "B-LOC"]
    assert [one["start"] for one in answer["spans"]] == [2 * at for at in range(20) if words[at] == "y"]


@pytest.mark.parametrize("kind", ["jsonl", "conll", "txt"])
def test_files(finished: RunResult, tmp_path: Path, capfd: pytest.CaptureFixture[str], kind: str) -> None:
    file = tmp_path / f"some.{kind}"
    contents = {
        "jsonl": '{"tokens": ["e", "a", "x"], "id": 1}\n\n{"tokens": ["y"]}\n',
        "conll": "e\t_\na\t_\nx\t_\n\ny\t_\n",
        "txt": "e a x\n\ny\n",
    }
    file.write_text(contents[kind])
    answers = [
        one
        for one in as_json(capfd, "predict", finished.run_dir, "--file", file)
        if one["text"] or one["spans"] is not None
    ]
    assert [answer["text"] for answer in answers] == ["e a x", "y"]
    assert [pieces(answer["spans"]) for answer in answers] == [[("a x", "PER")], [("y", "LOC")]]
    lines = {"jsonl": (1, 3), "conll": (1, 5), "txt": (1, 3)}[kind]
    assert [answer["origin"] for answer in answers] == [f"{file}:{line}" for line in lines]


def test_rows_that_cannot_be_read_are_named(
    finished: RunResult, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "some.jsonl"
    file.write_text('{"tokens": ["e"]}\n{"tokens": ["e", " "]}\n')
    assert main(["predict", str(finished.run_dir), "--file", str(file)]) == 4
    error = capfd.readouterr().err
    assert f"{file}:2" in error and "entry 2 of 'tokens' is blank" in error


def test_it_writes_no_text(finished: RunResult, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", str(finished.run_dir), "hello"]) == 2
    assert "tells classes apart" in capfd.readouterr().err
