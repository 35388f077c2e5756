"""`fttool evaluate` has the numbers that a run itself has of the same rows, whatever its task, and of any model."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tomli_w import dumps

from fttool.cli import main
from fttool.runs.stages import setup
from fttool.testing import RunResult, run_recipe
from fttool.verbs import evaluating
from fttool.watch.screen import Screen

CLASSES = ("ham", "offer", "spam")


def chats(file: Path, answers: Sequence[str]) -> Path:
    rows = [
        [{"role": "user", "content": f"Is it {n}?"}, {"role": "assistant", "content": said}]
        for n, said in enumerate(answers)
    ]
    file.write_text("".join(json.dumps({"messages": one}) + "\n" for one in rows))
    return file


def labelled(file: Path, count: int, classes: Sequence[str]) -> Path:
    chosen = random.Random(count)
    lines = [f"{chosen.choice('abcd')} {name} {n},{name}" for n in range(count) for name in classes]
    file.write_text("\n".join(["text,label", *lines]) + "\n")
    return file


def tagged(file: Path, count: int, *, places: bool) -> Path:
    rows = [{"tokens": ["Ada", "met", f"Bob{n}"], "tags": ["B-PER", "O", "B-PER"]} for n in range(count)]
    rows += [{"tokens": ["in", "Rome"], "tags": ["O", "B-LOC"]}] * places
    file.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return file


def recorded(run: RunResult) -> list[dict[str, float]]:
    """The lines of `metrics.jsonl` that an evaluation wrote."""
    lines = map(json.loads, (run.run_dir / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if any(key.startswith(("eval_", "retention_")) for key in line)]


def evaluated(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    capsys.readouterr()
    code = main(["evaluate", *map(str, words), "--json"])
    shown = capsys.readouterr()
    assert code == 0, shown.err
    return json.loads(shown.out)


def same(found: Mapping[str, Any], line: Mapping[str, float], prefix: str) -> None:
    """Of a dataset all that the run has measured, and as it did."""
    there = {key.removeprefix(prefix): value for key, value in line.items() if key.startswith(prefix)}
    assert there and there.keys() <= found["metrics"].keys()
    for name, value in there.items():
        assert found["metrics"][name] == pytest.approx(value, abs=1e-6, rel=0), name


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("evaluate")


ANSWERS = ["yes.", "no.", "yes.", "yes.", "no."]


@pytest.fixture(scope="module")
def chat_recipe(folder: Path, fttool_tiny_model: Path) -> dict[str, Any]:
    """What is learned is to say yes, so that some answers to the evaluation rows are right and some are not."""
    chats(folder / "train.jsonl", ["yes."] * 12)
    chats(folder / "new.jsonl", ANSWERS)
    chats(folder / "old.jsonl", ["After 3 comes 4."] * 3)
    generated = {"rows": 4, "max_tokens": 8, "micro_batch": 3}
    return {
        "recipe": 1,
        "run": {"max_steps": 40, "micro_batch": 4},
        "model": {"source": str(fttool_tiny_model)},
        "data": {
            "train": [{"path": str(folder / "train.jsonl")}],
            "eval": [{"path": str(folder / "new.jsonl")}],
            "retention": [{"path": str(folder / "old.jsonl")}],
        },
        "filters": [{"name": "words", "min": 1}],
        "optimizer": {"name": "adamw", "lr": 0.02},
        "schedule": {"name": "constant", "warmup": 0},
        "evaluation": {
            "metrics": ["loss", "perplexity", "exact-match"],
            "best": "loss",
            "every": 20,
            "micro_batch": 2,
            "generate": generated,
        },
        "precision": "fp32",
    }


@pytest.fixture(scope="module")
def chat_run(folder: Path, chat_recipe: dict[str, Any]) -> RunResult:
    run = run_recipe(chat_recipe, folder)
    assert run.error is None
    return run


def test_of_a_chat_run_as_the_run_itself(
    chat_run: RunResult, folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Evaluation and retention rows, those of answers too; and more metrics than the recipe names."""
    out = tmp_path / "measured.json"
    new, old = folder / "new.jsonl", folder / "old.jsonl"
    found = evaluated(capsys, chat_run.run_dir, new, old, "--out", out)
    assert json.loads(out.read_text()) == found
    best = min(recorded(chat_run), key=lambda line: line["eval_loss"])
    same(found["datasets"][str(new)], best, "eval_")
    same(found["datasets"][str(old)], best, "retention_old_")
    measured = found["datasets"][str(new)]
    assert 0 < measured["metrics"]["exact-match"] < 1, "or nothing was compared"
    assert {"token-accuracy"} <= measured["metrics"].keys() and "rouge-l" not in measured["metrics"]
    assert (measured["rows"], found["datasets"][str(old)]["rows"]) == (5, 3)


def test_of_a_runs_own_rows(chat_run: RunResult, capsys: pytest.CaptureFixture[str]) -> None:
    found = evaluated(capsys, chat_run.run_dir)["datasets"]
    best = min(recorded(chat_run), key=lambda line: line["eval_loss"])
    assert found.keys() == {"evaluation rows", "old"}
    same(found["evaluation rows"], best, "eval_")
    same(found["old"], best, "retention_old_")


def test_on_another_device_than_a_run_would_take(
    chat_run: RunResult, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine whose GPU is busy: torch would look for it, as there is none here."""
    new = folder / "new.jsonl"
    expected = evaluated(capsys, chat_run.run_dir, new)
    monkeypatch.setattr(setup, "device", lambda: torch.device("cuda"))
    assert evaluated(capsys, chat_run.run_dir, new, "--device", "cpu") == expected
    code, said = refused(capsys, chat_run.run_dir, new, "--device", "cuda:7")
    assert code == 2 and "no device 'cuda:7'" in said and "it has cpu" in said


def test_it_shows_how_far_it_is(
    chat_run: RunResult, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All micro-batches of each dataset, one by one."""
    shown: dict[str, list[int]] = {}

    class Counting(Screen):
        def track(self, items: Sequence[Any], what: str) -> Iterator[Any]:
            done = shown.setdefault(what, [len(items)])
            for item in items:
                done.append(len(done))
                yield item

    monkeypatch.setattr(evaluating, "choose", lambda **_: Counting())
    found = evaluated(capsys, chat_run.run_dir, "--set", "evaluation.micro_batch=1")["datasets"]
    steps = {f"measuring on {name}": one["rows"] for name, one in found.items()}
    assert {what: done for what, done in shown.items() if what in steps} == {
        what: [rows, *range(1, rows + 1)] for what, rows in steps.items()
    }


def test_of_a_model_as_a_run_that_begins_with_it(
    chat_run: RunResult, chat_recipe: dict[str, Any], folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """By the recipe's settings; without them, by the usual ones, which are the recipe's but for the metrics here."""
    (tmp_path / "recipe.toml").write_text(dumps(chat_recipe))
    model, new = chat_recipe["model"]["source"], folder / "new.jsonl"
    first = recorded(chat_run)[0]
    found = evaluated(capsys, model, new, "--recipe", tmp_path / "recipe.toml")
    same(found["datasets"][str(new)], first, "eval_")
    plain = evaluated(capsys, model, new, "--set", "precision=fp32")["datasets"][str(new)]["metrics"]
    assert plain["loss"] == pytest.approx(first["eval_loss"], abs=1e-6)
    one = evaluated(capsys, model, new, "--set", 'evaluation.metrics=["perplexity"]')["datasets"][str(new)]["metrics"]
    assert one.keys() == {"perplexity"}
    every = evaluated(capsys, model, new, "--generate", "--set", "evaluation.generate.max_tokens=2")
    assert {"exact-match", "answer-f1", "json-valid"} <= every["datasets"][str(new)]["metrics"].keys()


def test_in_the_number_formats_of_a_run(
    folder: Path, chat_recipe: dict[str, Any], chat_run: RunResult, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Under bf16 the forward pass rounds, in a run and here alike, and the numbers are others than in fp32."""
    model, new = chat_run.run_dir / "model", folder / "new.jsonl"
    changes = {"model": {"source": str(model)}, "evaluation": {"metrics": ["loss"]}, "precision": "bf16"}
    run = run_recipe({**chat_recipe, **changes, "run": {"max_steps": 1}}, tmp_path)
    assert run.error is None
    found = evaluated(capsys, model, new, "--set", "precision=bf16")["datasets"][str(new)]
    same(found, recorded(run)[0], "eval_")
    plain = evaluated(capsys, model, new, "--set", "precision=fp32")["datasets"][str(new)]
    assert abs(plain["metrics"]["loss"] - found["metrics"]["loss"]) > 1e-5


TASKS: Mapping[str, tuple[dict[str, Any], str]] = {
    "classes": ({"task": "classification"}, "new.csv"),
    "numbers": ({"task": {"name": "classification", "kind": "regression"}}, "numbers.csv"),
    "words": ({"task": "token-classification"}, "new.json"),
}


@pytest.fixture(scope="module", params=TASKS)
def classifier(
    request: pytest.FixtureRequest, folder: Path, fttool_tiny_model: Path
) -> Iterator[tuple[RunResult, Path]]:
    """A run with evaluation rows that lack one of the classes, and those rows."""
    tables, name = TASKS[request.param]
    here = folder / request.param
    here.mkdir()
    if request.param == "words":
        train, new = tagged(here / "train.json", 9, places=True), tagged(here / name, 3, places=False)
    else:
        of_numbers = request.param == "numbers"
        train = labelled(here / "train.csv", 8, ("0.5", "1.5", "-2") if of_numbers else CLASSES)
        new = labelled(here / name, 5, ("0.5", "-2") if of_numbers else ("spam", "ham"))
    recipe = {
        "recipe": 1,
        "run": {"max_steps": 6, "micro_batch": 4},
        "model": {"source": str(fttool_tiny_model)},
        "data": {"train": [{"path": str(train)}], "eval": [{"path": str(new)}]},
        "optimizer": {"name": "adamw", "lr": 0.01},
        "precision": "fp32",
        **tables,
    }
    run = run_recipe(recipe, here)
    assert run.error is None
    yield run, new


def test_of_a_classifier_as_the_run_itself(
    classifier: tuple[RunResult, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """By the run, and by its model's folder alone, whose configuration has the classes."""
    run, new = classifier
    summary = json.loads((run.run_dir / "summary.json").read_text())
    for model in (run.run_dir, run.run_dir / "model"):
        found = evaluated(capsys, model, new, "--set", "precision=fp32")["datasets"][str(new)]
        same(found, recorded(run)[-1], "eval_")
        assert {title: found["tables"][title] for title in summary["tables"]} == summary["tables"]


def test_columns_that_fit_side_by_side(
    chat_run: RunResult, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    for wide, tables in ((200, 1), (34, 2)):
        monkeypatch.setenv("COLUMNS", str(wide))
        assert main(["evaluate", str(chat_run.run_dir), "new.jsonl", "old.jsonl", "-q"]) == 0
        shown = capsys.readouterr().out.splitlines()
        assert max(map(len, shown)) <= wide
        assert sum(line.startswith("loss") for line in shown) == tables
        assert [word for line in shown if line.startswith("rows ") for word in line.split()[1:]] == ["5", "3"]


def test_rows_that_are_left_out_are_counted(
    chat_run: RunResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = chats(tmp_path / "rows.jsonl", ["yes."] * 3)
    lines = rows.read_text().splitlines()
    rows.write_text("\n".join([*lines, json.dumps({**json.loads(lines[0]), "weight": 0})]) + "\n")
    found = evaluated(capsys, chat_run.run_dir, rows)
    assert found["datasets"][str(rows)]["rows"] == 3 and found["dropped"] == {"marked as not learned": 1}


def test_rows_in_another_format_than_the_runs(
    chat_run: RunResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "plain.jsonl"
    rows.write_text('{"prompt": "Is it 3?", "completion": " yes."}\n' * 2)
    found = evaluated(capsys, chat_run.run_dir, rows)["datasets"][str(rows)]
    assert found["rows"] == 2 and found["metrics"]["loss"] > 0


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    capsys.readouterr()
    return main(["evaluate", *map(str, words)]), capsys.readouterr().err


def test_what_cannot_be_measured_is_refused(
    chat_run: RunResult, folder: Path, fttool_tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = folder / "new.jsonl"
    code, said = refused(capsys, "quizz", new)
    assert code == 2 and "there is no 'quizz' here" in said and "pretrained:quizz" in said
    code, said = refused(capsys, fttool_tiny_model)
    assert code == 2 and "is not a run" in said and "rows.jsonl" in said
    unfinished = Path(shutil.copytree(chat_run.run_dir, tmp_path / "unfinished"))
    shutil.rmtree(unfinished / "model")
    code, said = refused(capsys, unfinished, new)
    assert code == 2 and "has no final model" in said and "--resume" in said
    code, said = refused(capsys, chat_run.run_dir, folder / "neww.jsonl")
    assert code == 4 and "no such file" in said and "new.jsonl" in said
    code, said = refused(capsys, chat_run.run_dir, new, "--out", tmp_path / "none" / "out.json")
    assert code == 2 and "does not exist" in said


def test_a_head_with_random_weights_is_not_measured(
    fttool_tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = labelled(tmp_path / "rows.csv", 2, CLASSES)
    code, said = refused(capsys, fttool_tiny_model, rows, "--set", "task.name=classification")
    assert code == 5 and "random weights" in said and "score.weight" in said


def test_a_class_that_the_model_does_not_know_is_refused(
    folder: Path, tmp_path: Path, fttool_tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train, new = labelled(tmp_path / "t.csv", 3, CLASSES), labelled(tmp_path / "new.csv", 3, ("ham", "eggs"))
    recipe = {
        "recipe": 1,
        "run": {"max_steps": 2},
        "model": {"source": str(fttool_tiny_model)},
        "task": "classification",
        "data": {"train": [{"path": str(train)}]},
    }
    run = run_recipe(recipe, tmp_path)
    assert run.error is None
    code, said = refused(capsys, run.run_dir, new)
    assert code == 4 and "'eggs'" in said and "new.csv:" in said


def test_weights_make_the_numbers(
    chat_run: RunResult, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model whose head is zero gives each token the same chance: the loss is the logarithm of the vocabulary."""
    model = Path(shutil.copytree(chat_run.run_dir / "model", tmp_path / "flat"))
    tensors = load_file(model / "model.safetensors")
    tensors["lm_head.weight"] = torch.zeros_like(tensors["lm_head.weight"])
    save_file(tensors, model / "model.safetensors", {"format": "pt"})
    found = evaluated(capsys, model, folder / "new.jsonl")["datasets"][str(folder / "new.jsonl")]["metrics"]
    vocabulary = tensors["lm_head.weight"].shape[0]
    assert found["perplexity"] == pytest.approx(vocabulary, rel=1e-4)
