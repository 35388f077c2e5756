"""The fixtures of the pytest plugin: a model and rows so small that a run takes a second, made on the spot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def fttool_tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny random Llama (2 layers, hidden size 16) and its tokenizer with a ChatML template."""
    from fttool.testing import tiny

    folder = tmp_path_factory.mktemp("fttool") / "tiny-llama"
    tiny.tiny_model().save_pretrained(folder)
    tiny.tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def fttool_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A JSONL file of 24 short conversations in the format `messages`."""
    path = tmp_path_factory.mktemp("fttool") / "rows.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for number in range(24):
            turns = [
                {"role": "user", "content": f"What comes after {number}?"},
                {"role": "assistant", "content": f"After {number} comes {number + 1}."},
            ]
            file.write(json.dumps({"messages": turns}) + "\n")
    return path


@pytest.fixture
def fttool_recipe(fttool_tiny_model: Path, fttool_rows: Path) -> dict[str, Any]:
    """A recipe of four updates over the tiny model and rows, to be changed and given to `run_recipe`."""
    return {
        "recipe": 1,
        "run": {"max_steps": 4, "micro_batch": 2, "log_every": 1},
        "model": {"source": str(fttool_tiny_model)},
        "data": {"train": [{"path": str(fttool_rows), "format": "messages"}]},
        "precision": {"name": "fp32"},
    }
