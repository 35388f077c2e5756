"""What is proven of a model is proven under every sharding: of tied weights, dropout and activations computed again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

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
    [outcome] = run_recipes(tmp_path, {"gpt2": recipe}, SHARDINGS[sharding]).values()
    assert isinstance(outcome, Outcome), outcome
    proof = outcome.summary["proof"]
    assert all(proof[name]["holds"] for name in ("tied", "forgets", "shortcut", "recomputed")), proof
