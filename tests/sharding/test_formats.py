"""The final model has the formats of its source under every sharding, whatever the engine holds while it trains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fttool.testing.tiny import tiny_model, tiny_tokenizer

from .matrix import SHARDINGS, Outcome, base, run_recipes, under, write_rows
from .watching import dist

pytestmark = dist

SOURCES = ("float32", "bfloat16")
PRECISIONS = ("fp32", "bf16")
ENGINES = ("ddp", "fsdp", "zero-2", "zero-3")


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


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Outcome | str]]:
    """Engine → recipe → outcome, all from one pair of processes."""
    folder = tmp_path_factory.mktemp("formats")
    each = recipes(folder)
    named = {f"{engine}-{name}": under(SHARDINGS[engine], one) for engine in ENGINES for name, one in each.items()}
    found = run_recipes(folder, named)
    return {engine: {name: found[f"{engine}-{name}"] for name in each} for engine in ENGINES}


@pytest.mark.parametrize("sharding", ENGINES)
def test_it_is_saved_as_it_came(made: dict[str, dict[str, Outcome | str]], sharding: str) -> None:
    models: dict[str, dict[str, torch.Tensor]] = {}
    for name, outcome in made[sharding].items():
        assert isinstance(outcome, Outcome), outcome
        dtype = name.partition("-")[0]
        models[name] = load_file(outcome.run_dir / "model" / "model.safetensors")
        assert {str(tensor.dtype) for tensor in models[name].values()} == {f"torch.{dtype}"}, name
        assert json.loads((outcome.run_dir / "model" / "config.json").read_text())["dtype"] == dtype
        finals = [line for line in outcome.metrics if line.get("final")]
        loses = dtype == "bfloat16" and not (name.endswith("bf16") and sharding.startswith("zero"))
        assert len(finals) == (loses or name.endswith("mixed")), "what is measured last is what is saved"
    exact = models["float32-bf16"]
    rounded = [name for name, tensor in exact.items() if torch.equal(tensor, tensor.bfloat16().float())]
    assert not rounded, "these are the engine's 16-bit copies, not the weights that were trained"
