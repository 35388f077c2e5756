"""The router's load-balancing loss of an update is the same in one process and in several, and so are the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import MixtralConfig, MixtralForCausalLM

from fttool.testing import run_recipe
from fttool.testing.tiny import VOCABULARY, tiny_tokenizer

from .matrix import SHARDINGS, Outcome, base, under, write_rows
from .together import Recipes, Together, first
from .watching import dist

pytestmark = dist

ENGINES = ("ddp", "fsdp", "zero-2")


def recipe_in(folder: Path) -> dict[str, Any]:
    """Four updates of a model with four experts, which are as far apart at its start as a trained one's."""
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
    return recipe


@first
def recipes(folder: Path, _: Path) -> Recipes:
    """The run under each engine."""
    return {f"{engine}-router": under(SHARDINGS[engine], recipe_in(folder)) for engine in ENGINES}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The same run in one process."""
    folder = tmp_path_factory.mktemp("router")
    run = run_recipe(under({"name": "none"}, recipe_in(folder)), folder)
    assert run.error is None
    return Outcome(run.run_dir)


@pytest.mark.parametrize("sharding", ENGINES)
def test_an_update_has_the_same_term(together: Together, alone: Outcome, sharding: str) -> None:
    several = together.made()[f"{sharding}-router"]
    assert isinstance(several, Outcome), several
    assert sum("router_loss" in line for line in alone.metrics) == 3
    for ours, theirs in zip(several.metrics, alone.metrics, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4), ours["step"]
    expected, found = (load_file(run.run_dir / "model" / "model.safetensors") for run in (alone, several))
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=1e-5)
