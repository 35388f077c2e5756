"""`fttool preview` of rows that share a sequence: borders, positions, and the sequences that a run begins with."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from tomli_w import dumps

from fttool.cli import main

from ...rows import write_rows


def packed_recipe(recipe: dict[str, Any], folder: Path) -> Path:
    """Forty rows of many lengths in sequences of 256 tokens, learned from once."""
    talks = [
        [{"role": "user", "content": f"Q{n}?"}, {"role": "assistant", "content": "x" * (1 + 3 * n)}] for n in range(40)
    ]
    write_rows(folder / "many.jsonl", [{"messages": talk} for talk in talks])
    run = {**recipe["run"], "micro_batch": 1, "global_batch": 1, "workers": 0, "output": str(folder / "runs")}
    run.pop("max_steps", None)
    data = {"train": [{"path": "many.jsonl"}]}
    more = {"run": {**run, "epochs": 1}, "data": data, "batching": {"name": "packed", "max_length": 256}}
    (folder / "packed.toml").write_text(dumps({**recipe, **more}))
    return folder / "packed.toml"


def test_preview_marks_rows_that_share_a_sequence(
    tmp_path: Path, fttool_recipe: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Each row's positions start again, and no sequence is longer than it may be; a row alone stands in none."""
    file = packed_recipe(fttool_recipe, tmp_path)
    assert main(["preview", str(file), "--rows", "12", "--json"]) == 0
    said = capsys.readouterr()
    rows = [json.loads(line) for line in said.out.splitlines()]
    assert sorted(row["row"].rpartition(":")[2] for row in rows) == sorted(map(str, range(1, 13)))
    assert all(row["position_ids"] == [*range(len(row["input_ids"]))] for row in rows)
    lengths = Counter[int]()
    for row in rows:
        lengths[row["sequence"]] += len(row["input_ids"])
    assert [row["sequence"] for row in rows] == sorted(row["sequence"] for row in rows)
    assert max(lengths.values()) <= 256 and len(lengths) < len(rows)
    assert "note: these rows are packed as if there were no others" in said.err

    page = tmp_path / "rows.html"
    assert main(["preview", str(file), "--rows", "12", "--html", str(page)]) == 0
    shown = capsys.readouterr().out
    assert shown.count("\n── ") == 12 == page.read_text().count("border-top")
    assert shown.startswith("sequence 1: ") and f"{lengths[1]:,} of 256 tokens" in shown.splitlines()[0]
    assert shown.count(", positions 0 to ") == 12
    assert main(["preview", str(file), "--row", "2", "--json"]) == 0
    assert "sequence" not in json.loads(capsys.readouterr().out)


def test_preview_shows_the_sequences_that_a_run_begins_with(
    tmp_path: Path,
    fttool_recipe: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Told by the micro-batches that the run itself asks for, in their order."""
    from fttool.rows import loader

    file = packed_recipe(fttool_recipe, tmp_path)
    assert main(["preview", str(file), "--sequences", "--rows", "1000", "--json"]) == 0
    planned: list[list[int]] = []
    for row in map(json.loads, capsys.readouterr().out.splitlines()):
        planned += [[]] if row["sequence"] > len(planned) else []
        planned[-1] += row["input_ids"]
    asked: list[list[int]] = []
    original = loader._Sequences.__getitem__

    def recording(self: Any, group: Any) -> Any:
        found = original(self, group)
        asked.append([token for _, row in found for token in row.input_ids])
        return found

    monkeypatch.setattr(loader._Sequences, "__getitem__", recording)
    assert main(["run", str(file), "-q"]) == 0
    assert asked == planned and len(planned) > 5
    assert main(["preview", str(file), "--sequences", "--rows", "2", "--set", "batching.name=padded"]) == 0
    assert "position" not in capsys.readouterr().out
    assert main(["preview", str(file), "--sequences", "--row", "2"]) == 2


def test_preview_says_where_positions_go_on(
    tmp_path: Path, fttool_recipe: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """A batching that does not start them again is seen through."""
    from fttool_plugins.batching import collate

    original = collate.packed

    def straight(sequences: Any, pad_id: int) -> Any:
        batch = original(sequences, pad_id)
        batch["position_ids"] = torch.arange(batch["input_ids"].shape[1])[None]
        return batch

    file = packed_recipe(fttool_recipe, tmp_path)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(collate, "packed", straight)
        assert main(["preview", str(file), "--rows", "3"]) == 0
    assert capsys.readouterr().out.count(", which go on from the row before") == 2
