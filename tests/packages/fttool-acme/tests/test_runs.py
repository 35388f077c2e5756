"""Runs that use these strategies, and what they say where something is wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import fttool_acme
import pytest
from fttool_acme.curve import main

from fttool.api import UsageError
from fttool.testing import plugins, run_recipe

RECIPES = Path(__file__).parents[1] / "recipes"


@pytest.fixture
def recipe(fttool_recipe: dict[str, Any]) -> dict[str, Any]:
    """Six updates, of which the last four are averaged; the rate does not fall, so a run may be made longer."""
    return {
        **fttool_recipe,
        "run": {**fttool_recipe["run"], "max_steps": 6},
        "optimizer": {"name": "acme.signum", "lr": 0.001},
        "schedule": {"name": "acme.drops", "at": [5]},
        "regularizers": [{"name": "acme.tail-average", "last": 4}],
        "checkpoints": {"every": 4},
    }


def test_a_resumed_average_is_the_same(recipe: dict[str, Any], tmp_path: Path) -> None:
    acme = plugins(acme=fttool_acme)
    folder = tmp_path / "watched"
    folder.mkdir()
    straight = run_recipe({**recipe, "plugins": {"observe": ["acme"]}}, folder, plugins=acme)
    assert straight.exit_code == 0, straight.error
    weights = (straight.run_dir / "model" / "model.safetensors").read_bytes()
    lines = (straight.run_dir / "acme-diary.txt").read_text(encoding="utf-8").splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "loaded a recipe with schedule acme.drops",
        "started 6 updates",
        *(f"step {step}" for step in range(1, 5)),
        "saved checkpoint-4",
        *(f"step {step}" for step in range(5, 7)),
        "saved checkpoint-6",
        "finished after 6 updates",
    ]

    for file in sorted((straight.run_dir / "checkpoints" / "checkpoint-6").iterdir()):
        file.unlink()  # as if the run had ended at update 5
    (straight.run_dir / "checkpoints" / "checkpoint-6").rmdir()
    resumed = run_recipe({**recipe, "plugins": {"observe": ["acme"]}}, folder, plugins=acme, resume=True)
    assert resumed.exit_code == 0, resumed.error
    assert resumed.summary["steps"] == 6
    assert (resumed.run_dir / "model" / "model.safetensors").read_bytes() == weights

    free = run_recipe({**recipe, "regularizers": []}, tmp_path, plugins=acme)
    assert free.exit_code == 0, free.error
    assert (free.run_dir / "model" / "model.safetensors").read_bytes() != weights


def test_a_soup_is_a_model_to_go_on_from(fttool_tiny_model: Path, tmp_path: Path) -> None:
    """The package's recipe as it stands, over two models in the place of two runs of `quiz.toml`."""
    for name in ("quiz-1", "quiz-2"):
        shutil.copytree(fttool_tiny_model, tmp_path / "runs" / name / "model")
    folder = Path(shutil.copytree(RECIPES, tmp_path / "recipes"))
    text = (folder / "soup.toml").read_text(encoding="utf-8")
    result = run_recipe(text, folder, plugins=plugins(acme=fttool_acme))
    assert result.exit_code == 0, result.error
    locked = json.loads((result.run_dir / "lock.json").read_text(encoding="utf-8"))
    assert [Path(name).parent.name for name in locked["model"]] == ["quiz-1", "quiz-2"]


def test_rows_come_out_of_a_database(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(RECIPES, tmp_path / "recipes"))
    result = run_recipe((folder / "faq.toml").read_text(encoding="utf-8"), folder, plugins=plugins(acme=fttool_acme))
    assert result.exit_code == 0, result.error
    assert result.summary["train_rows"] == 4


def test_a_row_without_an_answer_is_named(recipe: dict[str, Any], tmp_path: Path) -> None:
    result = run_recipe({**recipe, "masking": "acme.after"}, tmp_path, plugins=plugins(acme=fttool_acme))
    assert result.exit_code == 4
    assert "rows.jsonl:1: the last turn has nothing after a 'Answer:'" in str(result.error)
    assert not result.run_dir.exists()


def test_a_best_checkpoint_and_an_average_are_refused(recipe: dict[str, Any], tmp_path: Path) -> None:
    both = {**recipe, "data": {**recipe["data"], "eval_share": 0.2}, "evaluation": {"best": "loss"}}
    result = run_recipe(both, tmp_path, plugins=plugins(acme=fttool_acme))
    assert result.exit_code == 3
    assert "acme.tail-average would overwrite it" in str(result.error)


def test_a_number_that_there_is_not_is_explained(fttool_recipe: dict[str, Any], tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "May I?"}, {"role": "assistant", "content": "I cannot say."}]
    (tmp_path / "rows.jsonl").write_text(json.dumps({"messages": turns}) + "\n", encoding="utf-8")
    fttool_recipe["run"]["max_steps"] = 2
    fttool_recipe["data"]["eval"] = [{"path": "rows.jsonl"}]
    fttool_recipe["evaluation"] = {"metrics": ["loss", "acme.refusals"], "generate": {"max_tokens": 2}, "samples": 0}
    result = run_recipe(fttool_recipe, tmp_path, plugins=plugins(acme=fttool_acme))
    assert result.exit_code == 0, result.error
    said = "no share: the rows themselves decline whatever was asked"
    assert result.summary["metric_remarks"] == {"acme.refusals": said}
    assert result.summary["eval"]["after"]["acme.refusals"] == "nan"


def test_the_verb_draws_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [{"step": 0, "eval_loss": 9.0}, *({"step": step, "loss": 5.0 - step} for step in range(1, 4))]
    (tmp_path / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    assert main([str(tmp_path)]) == 0
    assert capsys.readouterr().out == "loss  4.0000 → 2.0000, lowest 2.0000, highest 4.0000\n█▅▁\n"
    with pytest.raises(UsageError, match=r"has no metric 'eval_los'\n.*did you mean 'eval_loss'"):
        main([str(tmp_path), "--metric", "eval_los"])
    with pytest.raises(UsageError, match="No such file"):
        main([str(tmp_path / "none")])


def test_auto_knows_the_rows_of_a_quiz(recipe: dict[str, Any], tmp_path: Path) -> None:
    """But not where the right choice is a text: others write open questions so."""
    quiz = {"question": "2 + 2 = ?", "choices": ["3", "4"], "answer": 1}
    rows = tmp_path / "quiz.jsonl"
    rows.write_text(f"{json.dumps(quiz)}\n" * 4, encoding="utf-8")
    train = {"data": {"train": [{"path": "quiz.jsonl", "format": "auto"}]}}
    result = run_recipe({**recipe, **train}, tmp_path, plugins=plugins(acme=fttool_acme))
    assert result.exit_code == 0, result.error
    assert 'name = "acme.multiple-choice"' in (result.run_dir / "recipe.resolved.toml").read_text(encoding="utf-8")
    locked = json.loads((result.run_dir / "lock.json").read_text(encoding="utf-8"))
    assert [plugin["name"] for plugin in locked["plugins"]] == ["acme"]
    rows.write_text(f"{json.dumps({**quiz, 'choices': ['three', 'four'], 'answer': 'four'})}\n" * 4, encoding="utf-8")
    refused = run_recipe(
        {**recipe, **train, "run": {**recipe["run"], "name": "open"}}, tmp_path, plugins=plugins(acme=fttool_acme)
    )
    assert refused.exit_code == 4 and "no format reads any of the first 4 rows" in str(refused.error)
