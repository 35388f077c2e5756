"""What is proven of a model is proven under every sharding: of tied weights, dropout and activations computed again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BloomConfig, BloomForCausalLM, GPT2Config, GPT2LMHeadModel

from fttool.testing.tiny import VOCABULARY, tiny_tokenizer

from .matrix import SHARDINGS, Outcome, base, under, write_rows
from .together import Recipes, Together, first
from .watching import dist

pytestmark = dist

ENGINES = ("ddp", "fsdp", "zero-2", "zero-3")
MIXED = ("ddp", "fsdp", "zero-3")


@first
def recipes(folder: Path, _: Path) -> Recipes:
    """Packed rows, two updates: of a model that has all the properties, and of one in which rows see each other."""
    torch.manual_seed(0)
    drop: dict[str, Any] = {"resid_pdrop": 0.3, "embd_pdrop": 0.3, "attn_pdrop": 0.3}
    size: dict[str, Any] = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 512}
    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, **size, **drop))
    bloom = BloomForCausalLM(BloomConfig(vocab_size=VOCABULARY, hidden_size=16, n_layer=2, n_head=2))
    rows = [write_rows(folder / "rows.jsonl", 24), write_rows(folder / "general.jsonl", 4, first=100)]
    found: dict[str, dict[str, Any]] = {}
    for name, model in {"gpt2": gpt2, "mixing": bloom}.items():
        model.save_pretrained(folder / name)
        tiny_tokenizer().save_pretrained(folder / name)
        found[name] = {**base(folder / name, *rows), "batching": {"name": "packed", "max_length": 256}}
        found[name]["run"]["max_steps"] = 2
    found["gpt2"]["model"]["gradient_checkpointing"] = True
    return {
        f"{engine}-properties-{name}": under({**SHARDINGS[engine], "timeout": 60}, found[name])
        for name, engines in {"gpt2": ENGINES, "mixing": MIXED}.items()
        for engine in engines
    }


@pytest.mark.parametrize("sharding", ENGINES)
def test_the_properties_hold(together: Together, sharding: str) -> None:
    outcome = together.made()[f"{sharding}-properties-gpt2"]
    assert isinstance(outcome, Outcome), outcome
    proof = outcome.summary["proof"]
    of_batches = ("later", "beside", "padded", "neighbours", "packed", "longest")
    assert all(proof[name]["holds"] for name in (*of_batches, "tied", "forgets", "shortcut", "recomputed")), proof


@pytest.mark.parametrize("sharding", MIXED)
def test_a_model_that_mixes_packed_rows_is_refused_by_all_processes(together: Together, sharding: str) -> None:
    """The others go on, to the next run of theirs; that a launcher says it once, `test_launching.py` shows."""
    name = f"{sharding}-properties-mixing"
    assert isinstance(together.made()[name], str)
    folder = together.folder / "first"
    for rank in (0, 1):
        said = (folder / f"{name}.{rank}.error").read_text()
        assert said.count("in BloomForCausalLM, packed rows see each other") == 1
    run = folder / "runs" / name
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["status"], summary["steps"]) == ("failed", 0) and not summary["proof"]["neighbours"]["holds"]
    assert not (run / "model").exists()
