"""The final model has the formats of its source under every sharding, whatever the engine holds while it trains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fttool.testing.tiny import tiny_model, tiny_tokenizer

from .matrix import SHARDINGS, Outcome, base, run_recipes, write_rows
from .watching import dist

pytestmark = dist

SOURCES = ("float32", "bfloat16")
PRECISIONS = ("fp32", "bf16")


def recipes(folder: Path) -> dict[str, dict[str, Any]]:
    """A short run of each source in each precision, and one whose last weights are changed once more."""
    rows = [write_rows(folder / "rows.jsonl", 24), write_rows(folder / "general.jsonl", 4, first=100)]
    found: dict[str, dict[str, Any]] = {}
    for dtype in SOURCES:
        source = folder / dtype
        tiny_model().to(getattr(torch, dtype)).save_pretrained(source)
        tiny_tokenizer().save_pretrained(source)
        made = base(source, *rows)
        made["run"] |= {"max_steps": 2}
        made["checkpoints"] = {"every": 2}
        found |= {f"{dtype}-{precision}": {**made, "precision": {"name": precision}} for precision in PRECISIONS}
    wise = {"regularizers": [{"name": "wise-ft", "alpha": 0.5}], "precision": {"name": "bf16"}}
    return found | {"float32-mixed": {**found["float32-bf16"], **wise}}


@pytest.mark.parametrize("sharding", ["ddp", "fsdp", "zero-2", "zero-3"])
def test_it_is_saved_as_it_came(tmp_path: Path, sharding: str) -> None:
    made = run_recipes(tmp_path, recipes(tmp_path), SHARDINGS[sharding])
    for name, outcome in made.items():
        assert isinstance(outcome, Outcome), outcome
        dtype = name.partition("-")[0]
        tensors = load_file(outcome.run_dir / "model" / "model.safetensors")
        assert {str(tensor.dtype) for tensor in tensors.values()} == {f"torch.{dtype}"}, name
        assert json.loads((outcome.run_dir / "model" / "config.json").read_text())["dtype"] == dtype
        finals = [line for line in outcome.metrics if line.get("final")]
        loses = dtype == "bfloat16" and not (name.endswith("bf16") and sharding.startswith("zero"))
        assert len(finals) == (loses or name.endswith("mixed")), "what is measured last is what is saved"
    exact = load_file(tmp_path / "runs" / "float32-bf16" / "model" / "model.safetensors")
    rounded = [name for name, tensor in exact.items() if torch.equal(tensor, tensor.bfloat16().float())]
    assert not rounded, "these are the engine's 16-bit copies, not the weights that were trained"
