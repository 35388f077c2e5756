"""Weights that are not finite in one process's share alone are saved by none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .matrix import base, write_rows
from .test_scaling import run_all

pytestmark = [pytest.mark.dist, pytest.mark.full]

SHARDINGS: dict[str, dict[str, Any]] = {
    "ddp": {"name": "ddp"},
    "fsdp": {"name": "fsdp"},
    "zero-2": {"name": "zero", "stage": 2},
    "zero-3": {"name": "zero", "stage": 3},
}


def test_what_one_process_holds_is_looked_at_before_it_is_saved(tmp_path: Path, fttool_tiny_model: Path) -> None:
    rows = [write_rows(tmp_path / "rows.jsonl", 45), write_rows(tmp_path / "general.jsonl", 12, first=100)]
    recipes: dict[str, dict[str, Any]] = {}
    for name, sharding in SHARDINGS.items():
        recipe = base(fttool_tiny_model, *rows)
        recipe["run"] = {"max_steps": 4, "micro_batch": 2, "global_batch": 4, "log_every": 1}
        recipe["optimizer"] = {"name": "acme.poison", "lr": 0.01, "update": 4, "rank": 1}
        recipe["sharding"] = {**sharding, "processes": 2, "timeout": 60}
        recipes[name] = {**recipe, "checkpoints": {"every": 2}}
    found = run_all(tmp_path / "two", 2, recipes)
    for name, run in found.items():
        summary = json.loads((run / "summary.json").read_text())
        assert (summary["status"], summary["steps"]) == ("diverged", 4), name
        events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
        (event,) = [event for event in events if event["event"] == "diverged"]
        assert "not finite, and nothing of it is saved" in event["what"] and event["rows"], name
        assert [path.name for path in (run / "checkpoints").iterdir()] == ["checkpoint-2"], name
        assert not (run / "model").exists(), name
