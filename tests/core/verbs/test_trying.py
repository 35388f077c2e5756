"""Runs that are made for their numbers: who listens can stop one, and nobody else's signal is taken for that."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fttool import load
from fttool.errors import StoppedError
from fttool.verbs import short_run


@pytest.fixture
def changes(fttool_recipe: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    fttool_recipe["run"] |= {"output": str(tmp_path / "runs"), "max_steps": 6}
    return fttool_recipe


def test_who_listens_hears_every_line_and_stops_it(changes: dict[str, Any], tmp_path: Path) -> None:
    heard: list[int] = []

    def listen(step: int, values: Mapping[str, Any]) -> bool:
        assert "loss" in values
        heard.append(step)
        return step >= 2

    summary = short_run(load(changes), listen)
    assert (summary["status"], summary["steps"]) == ("interrupted", 3) and heard == [1, 2, 3]
    assert not (tmp_path / "runs" / "recipe" / "model").exists()
    assert not list((tmp_path / "runs").rglob("checkpoint-*"))


def test_who_wants_no_end_gets_all_of_it(changes: dict[str, Any], tmp_path: Path) -> None:
    summary = short_run(load(changes), lambda step, values: False, saves=True)
    assert (summary["status"], summary["steps"]) == ("finished", 6)
    assert (tmp_path / "runs" / "recipe" / "model" / "model.safetensors").exists()


@pytest.mark.parametrize(("number", "kind"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, StoppedError)])
def test_a_signal_from_elsewhere_is_raised(
    number: int, kind: type[BaseException], changes: dict[str, Any], tmp_path: Path
) -> None:
    def interrupt(step: int, values: Mapping[str, Any]) -> bool:
        if step == 2:
            os.kill(os.getpid(), number)
        return False

    with pytest.raises(kind):
        short_run(load(changes), interrupt)
    assert '"interrupted"' in (tmp_path / "runs" / "recipe" / "summary.json").read_text()
