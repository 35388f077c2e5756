"""A run that learns part by part, beside one that learns from all places at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fttool.testing import run_recipe
from fttool.testing.runs import RunResult
from fttool.watch.watch import Watch
from fttool_plugins.task import in_parts

from ...rows import write_talks


def ran(folder: Path, head_chunk: int | str, **tables: Any) -> RunResult:
    place = folder / f"run-{head_chunk}-{len(list(folder.iterdir()))}"
    place.mkdir()
    write_talks(place / "rows.jsonl", 12)
    recipe = {
        "recipe": 1,
        "run": {"max_steps": 4, "micro_batch": 2, "global_batch": 4, "log_every": 1},
        "model": {"source": "builtin:tiny-chat"},
        "data": {"train": [{"path": "rows.jsonl"}]},
        "batching": {"name": "bucketed", "max_length": 64},
        "task": {"name": "sft", "head_chunk": head_chunk},
        **tables,
    }
    done = run_recipe(recipe, place)
    assert done.error is None, done.error
    return done


def losses(done: RunResult) -> list[float]:
    return [line["loss"] for line in done.metrics if "loss" in line]


def weights(done: RunResult) -> dict[str, torch.Tensor]:
    return load_file(done.run_dir / "model" / "model.safetensors")


def proof(done: RunResult) -> dict[str, Any]:
    return next(event for event in done.events if event["event"] == "proof")["comparisons"]


def test_a_run_learns_the_same(tmp_path: Path) -> None:
    whole, parts = ran(tmp_path, "whole"), ran(tmp_path, 5)
    assert "in_parts" in proof(parts) and "in_parts" not in proof(whole)
    assert losses(parts) == pytest.approx(losses(whole), rel=1e-6)
    torch.testing.assert_close(weights(parts), weights(whole), rtol=1e-5, atol=1e-6)


def test_small_micro_batches_are_learned_from_at_once(tmp_path: Path) -> None:
    assert "in_parts" not in proof(ran(tmp_path, "auto"))


def test_a_model_that_learns_otherwise_gets_all_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, own = ran(tmp_path, "whole"), in_parts.losses

    def wrong(*arguments: Any) -> Any:
        found, outputs = own(*arguments)
        return found * 1.01, outputs

    monkeypatch.setattr(in_parts, "losses", wrong)
    parts = ran(tmp_path, 5)
    assert not proof(parts)["in_parts"]["holds"]
    assert losses(parts) == losses(whole)


def test_a_regularizer_that_looks_at_predictions_gets_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noted: list[str] = []
    monkeypatch.setattr(in_parts, "losses", None)
    monkeypatch.setattr(Watch, "note", lambda _, text, hint="": noted.append(text))
    ran(tmp_path, 5, regularizers=[{"name": "kl-init", "strength": 0.1}])
    assert "the logits of all places are computed at once, as a regularizer looks at predictions" in noted


def test_a_chunk_that_nothing_reads_is_refused(tmp_path: Path) -> None:
    write_talks(tmp_path / "rows.jsonl", 4)
    task = {"name": "sft", "head_chunk": 5, "places": "all"}
    data = {"train": [{"path": "rows.jsonl"}]}
    done = run_recipe({"recipe": 1, "model": {"source": "builtin:tiny-chat"}, "data": data, "task": task}, tmp_path)
    assert done.exit_code == 3 and "head_chunk has no effect" in str(done.error)
