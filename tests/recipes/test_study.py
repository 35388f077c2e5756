"""The study of forgetting: every method is a valid recipe, and the whole way from runs to table and picture works."""

import io
import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fttool.cli import main
from fttool.recipe.reading import load

FOLDER = Path(__file__).parents[2] / "recipes" / "forgetting"


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    import study

    return study


@pytest.mark.parametrize("experiment", ["chat", "spam"])
def test_each_method_is_a_valid_recipe_that_differs_from_the_base(study: ModuleType, experiment: str) -> None:
    base = load(FOLDER / f"{experiment}.toml", []).recipe
    found = study.EXPERIMENTS[experiment]
    for method in found.methods():
        recipe = load(FOLDER / f"{experiment}.toml", study.overrides(experiment, method)).recipe
        assert (recipe.model_dump() == base.model_dump()) == (method == "full"), method


@pytest.mark.full
def test_it_makes_the_runs_and_draws_them(
    study: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its runs are processes of their own; here they are made in this one."""
    methods = ["full", "replay"]

    def run_here(command: list[str], **_: Any) -> None:
        assert command[:3] == [sys.executable, "-m", "fttool"]
        with redirect_stdout(io.StringIO()):
            assert main(command[3:]) == 0

    monkeypatch.setattr(study.subprocess, "run", run_here)
    monkeypatch.setattr(sys, "argv", ["study.py", "chat", "--quick", "--methods", *methods, "--output", str(tmp_path)])
    study.main()
    shown = capsys.readouterr().out
    folder = tmp_path / "chat"
    outcomes = json.loads((folder / "results.json").read_text())
    assert [one["method"] for one in outcomes] == methods
    for one in outcomes:
        summary = json.loads((folder / f"{one['method']}-1" / "summary.json").read_text())
        before, after = summary["eval"]["before"], summary["eval"]["after"]
        assert one["gain"] == before["loss"] - after["loss"] != 0
        rises = [delta["loss"] for delta in summary["retention"]["delta"].values()]
        assert len(rises) == 2 and one["forgotten"] == pytest.approx(sum(rises) / 2)
    assert (folder / "results.md").read_text() in shown
    assert (folder / "results.png").read_bytes().startswith(b"\x89PNG")
