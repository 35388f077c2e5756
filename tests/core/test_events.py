"""Events have one form, wherever they are told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fttool import events
from fttool.api import hookimpl
from fttool.cli import main
from fttool.events import Diverged, Event, Logged, Reported
from fttool.testing import plugins, run_recipe

CLASSES = [one for one in vars(events).values() if isinstance(one, type) and issubclass(one, Event)]
ROWS = [
    {"messages": [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": f"{n}!"}]} for n in range(4)
]


def write_recipe(folder: Path, **run: Any) -> dict[str, Any]:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return {
        "recipe": 1,
        "run": {"max_steps": 2, **run},
        "model": {"source": "builtin:tiny-chat"},
        "data": {"train": [{"path": "rows.jsonl"}], "eval_share": 0.25},
        "optimizer": {"name": "adamw", "lr": 1e-3},
        "checkpoints": {"every": 1},
    }


class Hears:
    """An observer that keeps every event it is told."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    @hookimpl
    def fttool_event(self, event: Event) -> None:
        self.events.append(event)


def test_the_kind_is_the_name_of_the_class() -> None:
    assert Diverged.kind() == "diverged" and events.CheckpointSaved.kind() == "checkpoint_saved"
    assert len({one.kind() for one in CLASSES}) == len(CLASSES)


def test_text_is_left_out_where_there_is_none() -> None:
    assert events.Started(total_steps=3).described() == {"event": "started", "total_steps": 3}
    assert events.Noted(text="so").described() == {"event": "noted", "text": "so"}
    assert events.Note(text="so").described() == {"event": "note", "text": "so"}
    assert events.Note(text="so", hint="do").described() == {"event": "note", "hint": "do", "text": "so"}
    assert events.Ended(status="", step=0).described() == {"event": "ended", "status": "", "step": 0}
    assert Logged(values={"step": 1, "loss": 2.0}).described() == {"event": "logged", "step": 1, "loss": 2.0}


def test_an_observer_is_told_what_the_file_says(tmp_path: Path) -> None:
    hears = Hears()
    recipe = write_recipe(tmp_path) | {"plugins": {"observe": ["hears"]}}
    run = run_recipe(recipe, tmp_path, plugins=plugins(hears=hears))
    assert run.error is None
    written = [{name: value for name, value in line.items() if name != "time"} for line in run.events]
    told = [json.loads(json.dumps(event.described())) for event in hears.events]
    assert told == written[:-1] and written[-1]["event"] == "ended"  # which is written when observers are done
    assert {line["event"] for line in written} >= {"started", "proof", "checkpoint_saved"}


def test_standard_output_has_the_lines_of_the_file_and_more(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tomli_w import dumps

    (tmp_path / "recipe.toml").write_text(dumps(write_recipe(tmp_path, output=str(tmp_path / "runs"))))
    assert main(["run", str(tmp_path / "recipe.toml"), "--json"]) == 0
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    kinds = {one.kind(): one for one in CLASSES}
    assert {line["event"] for line in printed} <= set(kinds)
    recorded = [line for line in printed if not issubclass(kinds[line["event"]], Reported)]
    lines = map(json.loads, (tmp_path / "runs" / "recipe" / "events.jsonl").read_text().splitlines())
    without_time = [[{k: v for k, v in line.items() if k != "time"} for line in some] for some in (recorded, lines)]
    assert without_time[0] == [line for line in without_time[1] if line["event"] != "ended"]
    assert all("time" in line for line in printed)


def test_what_is_not_finite_is_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    from fttool.watch.screen import Json

    Json().logged(1, {"step": 1, "loss": float("nan"), "grad_norm": float("inf")})
    printed = json.loads(capsys.readouterr().out, parse_constant=lambda word: pytest.fail(word))
    assert (printed["loss"], printed["grad_norm"]) == ("nan", "inf")
