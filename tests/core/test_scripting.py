"""fttool from Python: the same runs and the same errors as on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tomli_w import dumps

import fttool
from fttool import Finished, FttoolError, generate, load, prepare, run
from fttool.cli import main
from fttool.errors import RecipeError, UsageError

from ..probes import imported_by


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fttool_recipe: dict[str, Any]) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    fttool_recipe["run"] = {**fttool_recipe.get("run", {}), "max_steps": 2, "output": str(tmp_path / "runs")}
    return fttool_recipe


def test_it_is_quick_to_import() -> None:
    assert imported_by("import fttool", "torch", "transformers", "pydantic", "rich") == set()
    assert imported_by("from fttool import load, run, prepare, generate") == set()


def test_every_name_is_there_and_documented() -> None:
    assert all(getattr(fttool, name).__doc__ for name in fttool.__all__)
    with pytest.raises(AttributeError):
        _ = fttool.nothing


def test_a_file_a_dictionary_and_an_object_are_one_recipe(here: dict[str, Any]) -> None:
    Path("recipe.toml").write_text(dumps(here))
    by_file = load("recipe.toml")
    by_data = load(here)
    by_object = load(by_data.recipe)
    assert by_file.recipe == by_data.recipe == by_object.recipe
    assert by_file.name == by_data.name == "recipe"
    assert load(by_file) is by_file


@pytest.mark.parametrize("kind", ["file", "data", "loaded"])
def test_changes_are_those_of_set(kind: str, here: dict[str, Any]) -> None:
    Path("recipe.toml").write_text(dumps(here))
    given = {"file": "recipe.toml", "data": here, "loaded": load(here)}[kind]
    changed = load(given, {"schedule.name": "constant", "optimizer.lr": 0.25, "filters": ["words"]}).recipe
    assert (changed.schedule.id(), changed.optimizer.lr, changed.filters[0].id()) == ("constant", 0.25, "words")


def test_problems_of_data_name_the_key(here: dict[str, Any]) -> None:
    here["schedule"] = {"name": "cosin"}
    here["data"]["train"][0]["limit"] = -1
    with pytest.raises(RecipeError) as wrong:
        load(here)
    assert wrong.value.exit_code == 3
    assert {p.where for p in wrong.value.problems} == {
        'recipe["schedule"]["name"]',
        'recipe["data"]["train"][0]["limit"]',
    }
    with pytest.raises(RecipeError, match=r"--set run\.sed"):
        load({**here, "schedule": "cosine", "data": load_data(here)}, {"run.sed": 1})
    with pytest.raises(RecipeError, match="is not TOML"):
        load({**here, "run": {"name": object()}})


def load_data(recipe: dict[str, Any]) -> dict[str, Any]:
    return {"train": [{key: value for key, value in recipe["data"]["train"][0].items() if key != "limit"}]}


def test_none_is_left_out_and_paths_are_text(here: dict[str, Any], tmp_path: Path) -> None:
    here["run"]["name"] = None
    here["data"]["train"][0]["path"] = Path(here["data"]["train"][0]["path"])
    assert load(here).name == "recipe"


def test_a_run_is_that_of_the_command_line(here: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    Path("typed.toml").write_text(dumps(here))
    assert main(["run", "typed.toml", "-q"]) == 0
    ended = run(here, {"run.name": "called"}, quiet=True)
    assert capsys.readouterr().out == ""
    assert isinstance(ended, Finished) and ended.code == 0
    typed = json.loads(Path("runs/typed/summary.json").read_text())
    assert ended.summary["status"] == "finished" and ended.folder.name == "called"
    assert ended.summary["train_tokens"] == typed["train_tokens"]
    weights = [Path(folder, "model.safetensors").read_bytes() for folder in ("runs/typed/model", ended.model)]
    assert weights[0] == weights[1]
    with pytest.raises(UsageError, match="called"):
        run(here, {"run.name": "called"}, quiet=True)
    again = load(ended.folder / "recipe.toml")
    assert again.recipe.model.source == load(here).recipe.model.source


def test_a_run_without_a_model(here: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    ended = run(here, save=False)
    assert ended.summary["steps"] == 2 and not ended.model.exists()
    assert "finished after 2 of 2 updates" in capsys.readouterr().out


def test_prepare_makes_everything_and_leaves_nothing(here: dict[str, Any], tmp_path: Path) -> None:
    before = set(tmp_path.rglob("*"))
    prepared = prepare(here)
    assert prepared.length.total_steps == 2 and len(prepared.rows.train) > 0
    assert set(tmp_path.rglob("*")) == before


def test_answers_are_those_of_the_command_line(
    fttool_tiny_model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["generate", str(fttool_tiny_model), "What is a deque?", "--max-tokens", "5"]) == 0
    said = capsys.readouterr().out.removesuffix("\n")
    assert generate(fttool_tiny_model, "What is a deque?", max_tokens=5) == said
    both = generate(fttool_tiny_model, ["What is a deque?", "Why?"], max_tokens=5)
    assert both[0] == said and len(both) == 2


@pytest.mark.parametrize(
    ("model", "questions", "options", "said"),
    [
        ("nowhere", "?", {}, "no model found in 'nowhere'"),
        ("builtin:tiny-chat", " ", {}, "a question is empty"),
        ("builtin:tiny-chat", [], {}, "a question is empty"),
        ("builtin:tiny-chat", "?", {"max_tokens": 0}, "at least 1"),
        ("bultin:tiny-chat", "?", {}, "did you mean 'builtin'?"),
    ],
)
def test_a_wrong_question_is_refused(model: str, questions: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(FttoolError) as wrong:
        generate(model, questions, **options)
    assert said in str(wrong.value) and wrong.value.exit_code == 2
