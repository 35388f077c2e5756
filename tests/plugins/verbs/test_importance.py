"""`fttool importance`: the file is the one that a run would write, and what is refused."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from tomli_w import dumps

from fttool.cli import main
from fttool.testing import run_recipe


@pytest.fixture
def recipe(fttool_recipe: dict[str, Any], fttool_rows: Path, tmp_path: Path) -> dict[str, Any]:
    fttool_recipe["data"]["general"] = [{"path": str(fttool_rows), "name": "old"}]
    fttool_recipe["regularizers"] = [
        {"name": "mixout", "p": 0.5},
        {"name": "ewc", "strength": 3, "examples": 5, "parameters": ["*.mlp.*"]},
    ]
    fttool_recipe["freezing"] = {"name": "top-layers", "n": 1}
    return fttool_recipe


def write(folder: Path, recipe: dict[str, Any]) -> str:
    path = folder / "my.toml"
    path.write_text(dumps(recipe))
    return str(path)


def notes(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return file.metadata()


def test_the_file_is_the_one_that_a_run_writes(
    tmp_path: Path, recipe: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "f.safetensors"
    assert main(["importance", write(tmp_path, recipe), "-o", str(output), "-q"]) == 0
    found = load_file(output)
    assert found.keys() == {f"model.layers.1.mlp.{part}_proj.weight" for part in ("gate", "up", "down")}
    assert capsys.readouterr().out == f"{output}: the importance of 1,536 weights\n"
    run = run_recipe(recipe, tmp_path)
    expected = run.run_dir / "importance.safetensors"
    assert all(torch.equal(found[name], values) for name, values in load_file(expected).items())
    assert notes(output) == notes(expected)
    assert {one.name for one in tmp_path.iterdir()} == {"my.toml", "f.safetensors", "recipe.toml", "runs"}


def test_the_default_is_what_the_recipe_names_which_then_uses_it(
    tmp_path: Path, recipe: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    recipe["regularizers"][1]["file"] = "wiki.safetensors"
    path = write(tmp_path, recipe)
    assert main(["importance", path, "-q"]) == 0
    assert (tmp_path / "wiki.safetensors").is_file()
    assert run_recipe(recipe, tmp_path).error is None
    assert main(["importance", path]) == 2
    assert "never overwritten" in capsys.readouterr().err


def test_without_a_name_it_lies_here(
    tmp_path: Path, recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["importance", write(tmp_path, recipe)]) == 0
    assert (tmp_path / "importance.safetensors").is_file()
    assert "on 5 general rows" in capsys.readouterr().err


def test_several_tasks_are_summed_here_too(tmp_path: Path, recipe: dict[str, Any]) -> None:
    path = write(tmp_path, recipe)
    first, both = tmp_path / "first.safetensors", tmp_path / "both.safetensors"
    assert main(["importance", path, "-o", str(first), "-q"]) == 0
    recipe["regularizers"][1] |= {"previous": "first.safetensors", "gamma": 0.5}
    assert main(["importance", write(tmp_path, recipe), "-o", str(both), "-q"]) == 0
    for name, values in load_file(first).items():
        torch.testing.assert_close(load_file(both)[name], 1.5 * values)


def test_a_termination_leaves_nothing_behind(
    tmp_path: Path, recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fttool_plugins.verbs import importance

    def prepare(*_: Any, **__: Any) -> None:
        assert len(list(tmp_path.iterdir())) == 2
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("not ended")

    monkeypatch.setattr(importance, "prepare", prepare)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        main(["importance", write(tmp_path, recipe), "-o", str(tmp_path / "f.safetensors")])
    assert ended.value.code == 143 and signal.getsignal(signal.SIGTERM) is before
    assert [one.name for one in tmp_path.iterdir()] == ["my.toml"]


def test_a_recipe_without_ewc_is_told_how_to_have_one(
    tmp_path: Path, recipe: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    recipe["regularizers"] = []
    path = write(tmp_path, recipe)
    assert main(["importance", path]) == 2
    said = capsys.readouterr().err
    override = 'regularizers=[{name="ewc",strength=1}]'
    assert override in said
    assert main(["importance", path, "--set", override, "-o", str(tmp_path / "f"), "-q"]) == 0


def test_what_it_cannot_do_is_refused(
    tmp_path: Path, recipe: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, recipe)
    assert main(["importance", path, "-o", str(tmp_path / "no" / "where")]) == 2
    assert "does not exist" in capsys.readouterr().err
    assert main(["importance", path, "-o", "/proc/importance"]) == 2
    assert "cannot write '/proc/importance'" in capsys.readouterr().err
    del recipe["data"]["general"]
    recipe["regularizers"][1]["file"] = "f.safetensors"
    assert main(["importance", write(tmp_path, recipe)]) == 3
    assert "[[data.general]]" in capsys.readouterr().err
    assert [one.name for one in tmp_path.iterdir()] == ["my.toml"]
