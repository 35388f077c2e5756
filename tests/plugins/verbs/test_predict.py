"""`fttool predict`: the class that the model says, for texts, files and folders, as people and programs read it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from fttool.cli import main
from fttool.testing import RunResult, run_recipe

from ...encoder import save_encoder
from ...rows import write_rows
from ...runs import as_json

TEXTS = ["x a b", "y c", "x x x a b c d e f g"]


def finish(folder: Path, **task: Any) -> RunResult:
    """A finished run over a tiny BERT; rows have their texts in `body`, and are cut at 6 tokens."""
    lines = [{"body": f"{'xy'[n % 2]} {n}", "label": ["no", "yes"][n % 2]} for n in range(24)]
    write_rows(folder / "rows.jsonl", lines)
    recipe = {
        "recipe": 1,
        "task": {"name": "classification", **task},
        "run": {"max_steps": 8, "micro_batch": 8},
        "model": {"source": str(save_encoder(folder / "encoder"))},
        "data": {"train": [{"path": "rows.jsonl", "format": {"name": "labelled", "text": "body"}}]},
        "batching": {"name": "padded", "max_length": 6},
        "optimizer": {"name": "adamw", "lr": 1e-2},
        "precision": "fp32",
    }
    run = run_recipe(recipe, folder)
    assert run.error is None, run.error
    return run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    return finish(tmp_path_factory.mktemp("predict"))


def expected(run: RunResult, text: str) -> dict[str, float]:
    """By transformers alone, one text at a time, cut where training cut."""
    folder = str(run.run_dir / "model")
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    inputs = AutoTokenizer.from_pretrained(folder)(text, truncation=True, max_length=6, return_tensors="pt")
    with torch.no_grad():
        logits = model(**inputs).logits[0]
    values = logits.sigmoid() if model.config.problem_type.startswith("multi") else logits.softmax(-1)
    return {model.config.id2label[number]: float(value) for number, value in enumerate(values)}


def check(run: RunResult, answers: list[dict[str, Any]], texts: list[str]) -> None:
    assert [answer["text"] for answer in answers] == texts
    for answer in answers:
        assert answer["probabilities"] == pytest.approx(expected(run, answer["text"]), abs=1e-5)
        assert answer["classes"] == [max(answer["probabilities"], key=answer["probabilities"].__getitem__)]


def test_texts(finished: RunResult, capfd: pytest.CaptureFixture[str]) -> None:
    words = [word for text in TEXTS for word in ("--text", text)]
    check(finished, as_json(capfd, "predict", finished.run_dir, *words), TEXTS)
    capfd.readouterr()
    assert main(["predict", str(finished.run_dir), "--text", "x a"]) == 0
    (line,) = capfd.readouterr().out.splitlines()
    label, share, *text = line.split()
    assert label in ("no", "yes") and share.endswith("%") and text == ["x", "a"]


@pytest.mark.parametrize("kind", ["jsonl", "csv", "txt"])
def test_files(finished: RunResult, tmp_path: Path, capfd: pytest.CaptureFixture[str], kind: str) -> None:
    """With the column that the run's rows had."""
    file = tmp_path / f"texts.{kind}"
    lines = {
        "jsonl": [json.dumps({"body": text}) for text in TEXTS],
        "csv": ["id,body", *(f"{n},{text}" for n, text in enumerate(TEXTS))],
        "txt": ["", *TEXTS],
    }[kind]
    file.write_text("\n".join(lines) + "\n")
    answers = [one for one in as_json(capfd, "predict", finished.run_dir, "--file", file) if one["text"]]
    check(finished, answers, TEXTS)
    first = {"jsonl": 1, "csv": 2, "txt": 2}[kind]
    assert [answer["origin"] for answer in answers] == [f"{file}:{first + n}" for n in range(3)]


def test_standard_input(
    finished: RunResult, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(["", *TEXTS])))
    blank, *answers = as_json(capfd, "predict", finished.run_dir)
    assert (blank["origin"], blank["classes"], blank["probabilities"]) == ("stdin:1", None, None)
    check(finished, answers, TEXTS)


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_standard_input_in_another_encoding(
    finished: RunResult, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, errors: str
) -> None:
    """Python opens it either way, as the locale says."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"caf\xe9\n"), encoding="utf-8", errors=errors))
    assert main(["predict", str(finished.run_dir)]) == 4
    shown = capfd.readouterr().err
    assert "standard input is not UTF-8" in shown and "iconv" in shown


def test_a_model_folder_without_its_run(finished: RunResult, capfd: pytest.CaptureFixture[str]) -> None:
    (answer,) = as_json(capfd, "predict", finished.run_dir / "model", "--text", "x a b")
    assert answer["probabilities"] == pytest.approx(expected(finished, "x a b"), abs=1e-5)


def test_several_classes_or_none(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = finish(tmp_path, multi_label=True)
    (answer,) = as_json(capfd, "predict", run.run_dir, "--text", "x a b")
    assert answer["probabilities"] == pytest.approx(expected(run, "x a b"), abs=1e-5)
    likely = [name for name, value in answer["probabilities"].items() if value > 0.5]
    assert sorted(answer["classes"]) == sorted(likely)


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (["--text", " "], 2, "the text is empty"),
        (["--text", "a", "--second", "b", "--second", "c"], 2, "1 --text and 2 --second do not make pairs"),
        (["--text", "a", "--file", "b.jsonl"], 2, "cannot be combined"),
        (["--text", "caf\udce9"], 2, "bytes that are not UTF-8"),
        (["--text", "a", "--second", "caf\udce9"], 2, "bytes that are not UTF-8"),
        (["--file", "none.jsonl"], 4, "no such file"),
        (["--file", "lines.text.txt"], 4, "did you mean 'lines.txt'?"),
        (["--file", "empty.txt"], 4, "the file is empty"),
        (["--file", "blank.txt"], 4, "the file has only blank lines"),
        (["--file", "latin.txt"], 4, "latin.txt:2: byte 0xe9 at column 4 is not UTF-8"),
        (["--file", "nul.txt"], 4, "nul.txt:1: the text contains a NUL character"),
        (["--file", "other.jsonl"], 4, "the row has no text in 'body'"),
        (["--text", "~"], 4, "the tokenizer makes no token"),
    ],
)
def test_what_cannot_be_classified(
    finished: RunResult,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    code: int,
    part: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.jsonl").write_text('{"text": "a"}\n')
    files = {"lines": b"x a\n", "empty": b"", "blank": b"\n \n", "latin": b"x\ncaf\xe9\n", "nul": b"x\0a\n"}
    for name, content in files.items():
        (tmp_path / f"{name}.txt").write_bytes(content)
    assert main(["predict", str(finished.run_dir), *words]) == code
    shown = capfd.readouterr().err
    assert part in shown and "Traceback" not in shown


def test_each_verb_knows_the_others_models(
    finished: RunResult, fttool_tiny_model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", str(finished.run_dir), "Who?"]) == 2
    assert "fttool predict" in capfd.readouterr().err
    assert main(["predict", str(fttool_tiny_model), "--text", "Who?"]) == 2
    assert "fttool generate" in capfd.readouterr().err
    assert main(["predict", str(finished.run_dir.parent), "--text", "Who?"]) == 2


@pytest.mark.parametrize("by_file", [True, False])
def test_each_line_has_its_line_and_its_number(
    by_file: bool,
    finished: RunResult,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = ["", "", TEXTS[0], "", TEXTS[1], *[""] * 40, TEXTS[0]]
    words = ["predict", str(finished.run_dir)]
    if by_file:
        (tmp_path / "lines.txt").write_text("\n".join(lines) + "\n")
        words += ["--file", str(tmp_path / "lines.txt")]
    said: list[list[str]] = []
    for more in ([], ["--json"]):
        monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines) + "\n"))
        assert main([*words, *more]) == 0
        said.append(capsys.readouterr().out.splitlines())
    assert [int(line.split()[0]) for line in said[0]] == list(range(1, len(lines) + 1))
    for number, (given, plain, line) in enumerate(zip(lines, *said, strict=True), 1):
        row = json.loads(line)
        assert row["origin"].endswith(f":{number}") and row["text"] == given
        assert (row["classes"] is None) == (given == "") == plain.endswith("(blank)")
