"""The story of docs/wsd.md, in a few updates: a run, a decay off it, a longer run."""

import json
import re
from pathlib import Path

import pytest

from fttool.cli import main

ROOT = Path(__file__).parents[2]
SHORT = {
    "schedule.warmup": 1,
    "schedule.decay": 2,
    "checkpoints.every": 2,
    "evaluation.every": 2,
    "run.max_steps": 8,
    "run.log_every": 1,
}


@pytest.mark.full
def test_a_run_decays_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [str(ROOT / "recipes" / "wsd.toml"), *(w for k, v in SHORT.items() for w in ("--set", f"{k}={v}"))]
    assert main(["run", *words]) == 0
    assert {path.name for path in Path("runs/wsd/checkpoints").iterdir()} == {f"checkpoint-{n}" for n in (2, 4, 6, 8)}
    assert main(["decay", "runs/wsd", "--from", "checkpoint-4", "--steps", "2"]) == 0
    shown = capsys.readouterr().out
    assert "wsd-4-decay-2: finished after 6 of 6 updates" in shown
    assert main(["decay", "runs/wsd", "--from", "checkpoint-8", "--steps", "2"]) == 2
    refused = capsys.readouterr().err
    page = (ROOT / "docs" / "wsd.md").read_text()
    for line in refused.splitlines():
        in_words = re.sub(r"\d+", r"\\d+", re.escape(line))
        assert re.search(in_words, page), line
    assert main(["run", *words, "--set", "run.max_steps=12", "--resume"]) == 0
    assert "is kept in" in capsys.readouterr().err
    steps = {
        folder: json.loads((Path("runs") / folder / "summary.json").read_text())["steps"]
        for folder in ("wsd", "wsd/until-8", "wsd-4-decay-2")
    }
    assert steps == {"wsd": 12, "wsd/until-8": 8, "wsd-4-decay-2": 6}


def test_the_page_shows_the_recipe() -> None:
    page, recipe = (ROOT / "docs" / "wsd.md").read_text(), (ROOT / "recipes" / "wsd.toml").read_text()
    (shown,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    for table in shown.strip().split("\n\n"):
        assert table in recipe
