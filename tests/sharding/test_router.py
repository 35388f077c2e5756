"""The router's load-balancing loss of an update is the same in one process and in several, and so are the weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import MixtralConfig, MixtralForCausalLM

from fttool.testing import run_recipe
from fttool.testing.tiny import VOCABULARY, tiny_tokenizer

from .matrix import SHARDINGS, Outcome, base, run_recipes, under, write_rows
from .watching import dist

pytestmark = dist

ENGINES = ("ddp", "fsdp", "zero-2")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome | str]:
    """The same run in one process, `none`, and under each engine, those from one pair of processes."""
    folder = tmp_path_factory.mktemp("router")
    torch.manual_seed(0)
    size: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "head_dim": 8}
    size |= {"num_attention_heads": 2, "num_key_value_heads": 2, "num_local_experts": 4, "initializer_range": 0.3}
    config = MixtralConfig(vocab_size=VOCABULARY, **size, max_position_embeddings=512)
    MixtralForCausalLM(config).save_pretrained(folder / "source")
    tiny_tokenizer().save_pretrained(folder / "source")
    rows = [write_rows(folder / "rows.jsonl", 27), write_rows(folder / "general.jsonl", 4, first=100)]
    recipe = base(folder / "source", *rows)
    recipe |= {"task": {"name": "sft", "router_loss": 0.3}, "optimizer": {"name": "sgd", "lr": 0.05}}
    recipe["run"] |= {"max_steps": 4, "log_every": 2}
    several = run_recipes(folder, {engine: under(SHARDINGS[engine], recipe) for engine in ENGINES})
    (folder / "one").mkdir()
    alone = run_recipe(under({"name": "none"}, recipe), folder / "one")
    assert alone.error is None
    return {"none": Outcome(alone.run_dir), **several}


@pytest.mark.parametrize("sharding", ENGINES)
def test_an_update_has_the_same_term(made: dict[str, Outcome | str], sharding: str) -> None:
    one, several = made["none"], made[sharding]
    assert isinstance(one, Outcome) and isinstance(several, Outcome), (one, several)
    assert sum("router_loss" in line for line in one.metrics) == 3
    for ours, theirs in zip(several.metrics, one.metrics, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4), ours["step"]
    expected, found = (load_file(run.run_dir / "model" / "model.safetensors") for run in (one, several))
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=1e-5)
