"""`fttool merge`: the weights it writes, that they load as a model, what it says, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from fttool.cli import main
from fttool.testing import RunResult, run_recipe

from ...rows import write_rows


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, fttool_tiny_model: Path, fttool_rows: Path
) -> tuple[RunResult, Path]:
    """A run with evaluation and retention rows over a model folder of its own, which a test may change."""
    folder = tmp_path_factory.mktemp("merge")
    shutil.copytree(fttool_tiny_model, folder / "source")
    recipe = {
        "recipe": 1,
        "run": {"max_steps": 4, "micro_batch": 2},
        "model": {"source": "source"},
        "data": {
            "train": [{"path": str(fttool_rows)}],
            "eval_share": 0.2,
            "retention": [{"path": str(fttool_rows), "name": "old", "limit": 4}],
        },
        "optimizer": {"name": "adamw", "lr": 0.01},
        "evaluation": {"metrics": ["loss", "token-accuracy"]},
        "precision": "fp32",
    }
    run = run_recipe(recipe, folder)
    assert run.error is None
    return run, folder / "source"


def words(run: RunResult, *more: str) -> list[str]:
    return ["merge", str(run.run_dir), *more]


def table(printed: str) -> dict[str, list[float]]:
    """Before, mixture and after, by metric."""
    rows = [line.split() for line in printed.splitlines() if line.strip().startswith(("eval_", "retention_"))]
    return {name: [float(number) for number in numbers] for name, *numbers in rows}


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_the_weights_lie_between_those_before_and_after(
    finished: tuple[RunResult, Path], alpha: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, source = finished
    assert main(words(run, "--alpha", str(alpha), "-o", str(tmp_path / "merged"))) == 0
    before, after = load_file(source / "model.safetensors"), load_file(run.run_dir / "model" / "model.safetensors")
    merged = load_file(tmp_path / "merged" / "model.safetensors")
    assert merged.keys() == after.keys()
    for name, values in merged.items():
        expected = (1 - alpha) * before[name].double() + alpha * after[name].double()
        torch.testing.assert_close(values.double(), expected, rtol=0, atol=1e-6)
    if alpha in (0.0, 1.0):
        assert all(torch.equal(values, (after if alpha else before)[name]) for name, values in merged.items())
    measured = table(capsys.readouterr().out)
    assert measured.keys() == {
        f"{rows}_{metric}" for rows in ("eval", "retention_old") for metric in ("loss", "token-accuracy")
    }
    for name, (first, mixture, last) in measured.items():
        assert first != last
        if alpha in (0.0, 1.0):
            assert mixture == (last if alpha else first), name


def test_what_is_written_loads_and_answers(
    finished: tuple[RunResult, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, _ = finished
    merged = tmp_path / "merged"
    assert main(words(run, "--alpha", "0.5", "-o", str(merged), "--no-eval", "-q")) == 0
    assert capsys.readouterr().out == f"{run.run_dir}: alpha 0.5 → {merged}\n"
    assert {path.name for path in merged.iterdir()} == {path.name for path in (run.run_dir / "model").iterdir()}
    _, report = AutoModelForCausalLM.from_pretrained(merged, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    theirs = AutoTokenizer.from_pretrained(run.run_dir / "model")
    assert AutoTokenizer.from_pretrained(merged).chat_template == theirs.chat_template
    assert main(["generate", str(merged), "What comes after 3?", "--max-tokens", "3"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["merged"], "nothing half written is left"


def test_the_default_folder_is_in_the_run_and_nothing_is_overwritten(
    finished: tuple[RunResult, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run, _ = finished
    assert main(words(run, "--alpha", "0.25", "--no-eval", "-q")) == 0
    written = run.run_dir / "model-0.25" / "model.safetensors"
    before = written.read_bytes()
    assert main(words(run, "--alpha", "0.25", "--no-eval")) == 2
    assert "never overwritten" in capsys.readouterr().err and written.read_bytes() == before


def test_a_model_that_has_changed_since_is_refused(
    finished: tuple[RunResult, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, source = finished
    shutil.copytree(run.run_dir, tmp_path / "run")
    file = source / "model.safetensors"
    good = file.read_bytes()
    try:
        file.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        assert main(["merge", str(tmp_path / "run"), "--alpha", "0.5", "--no-eval"]) == 5
    finally:
        file.write_bytes(good)
    assert "has changed since" in capsys.readouterr().err
    assert not (tmp_path / "run" / "model-0.5").exists()


def test_what_is_no_finished_run_is_refused(
    finished: tuple[RunResult, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, _ = finished
    assert main(["merge", str(tmp_path), "--alpha", "0.5"]) == 2
    assert "is not a run directory" in capsys.readouterr().err
    shutil.copytree(run.run_dir, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "model")
    assert main(["merge", str(tmp_path / "run"), "--alpha", "0.5"]) == 2
    assert "has no final model" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["file/merged", "file/more/merged"])
def test_a_place_that_no_folder_can_have_is_refused(
    finished: tuple[RunResult, Path], tmp_path: Path, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main(words(finished[0], "--alpha", "0.5", "-o", str(tmp_path / place), "--no-eval")) == 2
    said = capsys.readouterr().err
    assert f"cannot write '{tmp_path / place}'" in said and "-o DIR" in said


@pytest.mark.parametrize("alpha", ["1.5", "-0.1", "nan", "much"])
def test_alpha_is_a_share(finished: tuple[RunResult, Path], alpha: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words(finished[0], f"--alpha={alpha}"))
    said = capsys.readouterr().err
    assert ended.value.code == 2 and f"--alpha: '{alpha}' is not a number between 0 and 1" in said


def test_a_run_without_rows_to_measure_on_says_so(
    tmp_path: Path, fttool_recipe: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_recipe(fttool_recipe, tmp_path)
    assert main(words(run, "--alpha", "0.5", "-q")) == 0
    assert "no evaluation or retention rows" in capsys.readouterr().out


def classifying(recipe: dict[str, Any], folder: Path, classes: str, name: str, **tables: Any) -> RunResult:
    """A finished run over rows of these classes."""
    rows = folder / f"{classes}.jsonl"
    lines = [{"text": f"row {n}", "label": classes[n % len(classes)]} for n in range(12)]
    write_rows(rows, lines)
    tables |= {"task": "classification", "data": {"train": [{"path": str(rows)}]}}
    tables["optimizer"] = {"name": "adamw", "lr": 0.01}
    run = run_recipe({**recipe, **tables}, folder, overrides=[f"run.name={name}"])
    assert run.error is None
    return run


def test_a_run_that_trained_a_new_head_alone_has_nothing_to_mix(
    tmp_path: Path, fttool_recipe: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    run = classifying(fttool_recipe, tmp_path, "ab", "head", freezing="head-only")
    assert main(words(run, "--alpha", "0.5")) == 2
    assert "nothing to mix" in capsys.readouterr().err
    assert not list(run.run_dir.glob("*model-0.5*"))


def test_a_head_of_other_classes_than_the_sources_is_new_and_nothing_is_reported(
    tmp_path: Path, fttool_recipe: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    first = classifying(fttool_recipe, tmp_path, "ab", "first")
    then = classifying(fttool_recipe, tmp_path, "abc", "then", model={"source": str(first.run_dir / "model")})
    for run in (first, then):
        capfd.readouterr()
        assert main(words(run, "--alpha", "0.5", "-q", "--no-eval", "-o", str(tmp_path / run.run_dir.name))) == 0
        assert capfd.readouterr().err == ""
    merged, after = (load_file(one / "model.safetensors") for one in (tmp_path / "then", then.run_dir / "model"))
    assert torch.equal(merged["score.weight"], after["score.weight"]) and len(merged["score.weight"]) == 3


def test_a_new_head_stays_as_it_was_trained(
    tmp_path: Path, fttool_recipe: dict[str, Any], fttool_tiny_model: Path
) -> None:
    run = classifying(fttool_recipe, tmp_path, "ab", "run")
    assert main(words(run, "--alpha", "0", "-q", "-o", str(tmp_path / "merged"))) == 0
    merged, after = (load_file(one / "model.safetensors") for one in (tmp_path / "merged", run.run_dir / "model"))
    before = load_file(fttool_tiny_model / "model.safetensors")
    assert torch.equal(merged["score.weight"], after["score.weight"])
    assert all(torch.equal(values, before[name]) for name, values in merged.items() if name != "score.weight")
    assert json.loads((tmp_path / "merged" / "config.json").read_text())["id2label"] == {"0": "a", "1": "b"}
