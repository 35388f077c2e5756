"""The final model has the formats of its source under every sharding, whatever the engine holds while it trains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fttool.testing.tiny import tiny_model, tiny_tokenizer

from .matrix import SHARDINGS, Outcome, base, under, write_rows
from .together import Recipes, Together, first
from .watching import dist

pytestmark = dist

SOURCES = ("float32", "bfloat16")
PRECISIONS = ("fp32", "bf16")
ENGINES = ("ddp", "fsdp", "zero-2", "zero-3")


@first
def recipes(folder: Path, _: Path) -> Recipes:
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
    found |= {"float32-mixed": {**found["float32-bf16"], **wise}}
    return {f"{one}-formats-{name}": under(SHARDINGS[one], made) for one in ENGINES for name, made in found.items()}


@pytest.mark.parametrize("sharding", ENGINES)
def test_it_is_saved_as_it_came(together: Together, sharding: str) -> None:
    prefix = f"{sharding}-formats-"
    models: dict[str, dict[str, torch.Tensor]] = {}
    for full_name, outcome in together.made().items():
        if not full_name.startswith(prefix):
            continue
        name = full_name.removeprefix(prefix)
        assert isinstance(outcome, Outcome), outcome
        dtype = name.partition("-")[0]
        models[name] = load_file(outcome.run_dir / "model" / "model.safetensors")
        assert {str(tensor.dtype) for tensor in models[name].values()} == {f"torch.{dtype}"}, name
        assert json.loads((outcome.run_dir / "model" / "config.json").read_text())["dtype"] == dtype
        finals = [line for line in outcome.metrics if line.get("final")]
        loses = dtype == "bfloat16" and not (name.endswith("bf16") and sharding.startswith("zero"))
        assert len(finals) == (loses or name.endswith("mixed")), "what is measured last is what is saved"
    assert len(models) == len(SOURCES) * len(PRECISIONS) + 1
    exact = models["float32-bf16"]
    rounded = [name for name, tensor in exact.items() if torch.equal(tensor, tensor.bfloat16().float())]
    assert not rounded, "these are the engine's 16-bit copies, not the weights that were trained"
