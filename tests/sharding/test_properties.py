"""What is proven of a model is proven under every sharding: of tied weights, dropout and activations computed again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BloomConfig, BloomForCausalLM, GPT2Config, GPT2LMHeadModel

from fttool.testing.tiny import VOCABULARY, tiny_tokenizer

from .matrix import SHARDINGS, Outcome, base, run_recipes, write_rows
from .watching import dist

pytestmark = dist


@pytest.mark.parametrize("sharding", ["ddp", "fsdp", "zero-2", "zero-3"])
def test_the_properties_hold(tmp_path: Path, sharding: str) -> None:
    torch.manual_seed(0)
    drop: dict[str, Any] = {"resid_pdrop": 0.3, "embd_pdrop": 0.3, "attn_pdrop": 0.3}
    size: dict[str, Any] = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 512}
    GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, **size, **drop)).save_pretrained(tmp_path / "source")
    tiny_tokenizer().save_pretrained(tmp_path / "source")
    rows = [write_rows(tmp_path / "rows.jsonl", 24), write_rows(tmp_path / "general.jsonl", 4, first=100)]
    recipe = base(tmp_path / "source", *rows)
    recipe["run"] |= {"max_steps": 2}
    recipe["model"]["gradient_checkpointing"] = True
    recipe["batching"] = {"name": "packed", "max_length": 256}
    [outcome] = run_recipes(tmp_path, {"gpt2": recipe}, SHARDINGS[sharding]).values()
    assert isinstance(outcome, Outcome), outcome
    proof = outcome.summary["proof"]
    of_batches = ("later", "beside", "padded", "neighbours", "packed", "longest")
    assert all(proof[name]["holds"] for name in (*of_batches, "tied", "forgets", "shortcut", "recomputed")), proof


@pytest.mark.parametrize("sharding", ["ddp", "fsdp", "zero-3"])
def test_a_model_that_mixes_packed_rows_is_refused_by_all_processes(
    tmp_path: Path, recipe: dict[str, Any], started: Any, sharding: str
) -> None:
    torch.manual_seed(0)
    BloomForCausalLM(BloomConfig(vocab_size=VOCABULARY, hidden_size=16, n_layer=2, n_head=2)).save_pretrained(
        tmp_path / "source"
    )
    tiny_tokenizer().save_pretrained(tmp_path / "source")
    recipe["model"] = {"source": str(tmp_path / "source")}
    recipe["batching"] = {"name": "packed", "max_length": 256}
    recipe["sharding"] = {**SHARDINGS[sharding], "timeout": 60}
    process = started()
    _, said = process.communicate(timeout=150)
    assert process.returncode == 5, said
    assert said.count("in BloomForCausalLM, packed rows see each other") == 1
    summary = json.loads((tmp_path / "runs" / "r" / "summary.json").read_text())
    assert (summary["status"], summary["steps"]) == ("failed", 0) and not summary["proof"]["neighbours"]["holds"]
    assert not (tmp_path / "runs" / "r" / "model").exists()
