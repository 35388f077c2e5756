"""A saved configuration differs from its source's only in what the recipe asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    LlavaConfig,
)

from fttool.testing import run_recipe
from fttool.testing.tiny import tiny_model, tiny_tokenizer
from fttool.training.configs import Configs

from ...architectures import SIZES
from ...rows import write_rows

SMALL: dict[str, Any] = {
    **SIZES,
    "vocab_size": 128,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "use_cache": True,
}
MIXTURE = {**SMALL, "num_experts_per_tok": 2, "router_aux_loss_coef": 0.01, "moe_intermediate_size": 16}
OLDER = {key: value for key, value in SMALL.items() if key not in ("num_key_value_heads", "head_dim")}
KINDS: dict[str, dict[str, Any]] = {
    "llama": {**SMALL, "pad_token_id": None, "bos_token_id": 7, "eos_token_id": 9},  # the tokenizer says otherwise
    "gemma2": {**SMALL, "tie_word_embeddings": True},
    "mixtral": {**MIXTURE, "num_local_experts": 4, "output_router_logits": False},
    "qwen3_moe": {**MIXTURE, "num_experts": 4, "output_router_logits": True},
    "gpt2": {"vocab_size": 128, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 256},
    "bert": OLDER,
}
ALLOWED: dict[str, set[str]] = {
    "bert": {"id2label", "label2id", "problem_type"},  # the names of the classes that the task learns
}
"""Keys of `config.json` that a recipe's task sets."""
ALLOWED_IN_GENERATION = {"eos_token_id"}
"""The tokens that end a turn: generation must stop there."""


def source(folder: Path, kind: str) -> Path:
    auto: Any = AutoModelForSequenceClassification if kind == "bert" else AutoModelForCausalLM
    auto.from_config(AutoConfig.for_model(kind, **KINDS[kind])).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8"))


def different(one: dict[str, Any], other: dict[str, Any]) -> set[str]:
    return {key for key in one.keys() | other.keys() if one.get(key, "absent") != other.get(key, "absent")}


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_configuration_is_its_sources(tmp_path: Path, fttool_recipe: dict[str, Any], kind: str) -> None:
    where = source(tmp_path / "source", kind)
    fttool_recipe["model"] = {"source": str(where)}
    fttool_recipe["run"]["max_steps"] = 2
    if kind == "bert":
        rows = tmp_path / "rows.jsonl"
        write_rows(rows, ({"text": text, "label": text} for text in "abab"))
        fttool_recipe |= {"task": {"name": "classification"}, "data": {"train": [{"path": str(rows)}]}}
    done = run_recipe(fttool_recipe, tmp_path)
    assert done.error is None
    saved = done.run_dir / "model"
    assert different(read(where / "config.json"), read(saved / "config.json")) <= ALLOWED.get(kind, set())
    if kind != "bert":
        before, after = (read(folder / "generation_config.json") for folder in (where, saved))
        assert different(before, after) <= ALLOWED_IN_GENERATION
        assert set(_listed(before.get("eos_token_id"))) <= set(_listed(after["eos_token_id"]))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def test_what_a_constructor_changes_is_undone_and_said(tmp_path: Path, fttool_recipe: dict[str, Any]) -> None:
    fttool_recipe["model"] = {"source": str(source(tmp_path / "source", "mixtral"))}
    fttool_recipe["run"]["max_steps"] = 2
    done = run_recipe(fttool_recipe, tmp_path)
    said = [event for event in done.events if event["event"] == "config_set_back"]
    assert said[0]["by"] == "SFTTrainer"
    assert "output_router_logits = True (before: False)" in said[0]["changes"]


def test_values_come_back_wherever_they_stand() -> None:
    """Changed, new, lost and nested ones, and lists that are changed in place."""
    model = tiny_model()
    inner: Any = LlavaConfig(text_config=AutoConfig.for_model("llama", **SMALL))
    model.config = inner
    model.generation_config.eos_token_id = [3]
    configs = Configs(model)
    inner.text_config.use_cache, inner.text_config.new = False, 1
    del inner.image_token_index
    model.generation_config.eos_token_id.append(4)
    kept = configs.undo(but=("use_cache",))
    assert {change.name for change in kept} == {
        "text_config.new",
        "image_token_index",
        "generation.eos_token_id",
    }
    assert inner.text_config.use_cache is False
    assert [change.name for change in configs.undo()] == ["text_config.use_cache"]
    assert configs.undo() == []
    assert inner.text_config.use_cache is True and not hasattr(inner.text_config, "new")
    assert hasattr(inner, "image_token_index") and model.generation_config.eos_token_id == [3]


def test_what_is_changed_of_a_tokenizer_is_set_back_and_told() -> None:
    """As by a constructor that makes the end of a turn the padding: whoever masks by its id would then mask ends."""
    model, tokenizer = tiny_model(), tiny_tokenizer()
    tokenizer.pad_token = None
    configs = Configs(model, tokenizer)
    assert configs.undo() == []
    before = tokenizer.padding_side
    tokenizer.pad_token, tokenizer.padding_side = tokenizer.eos_token, {"left": "right", "right": "left"}[before]
    told = [change.name for change in configs.undo()]
    assert told == ["tokenizer.pad_token", "tokenizer.padding_side"]
    assert tokenizer.pad_token is None and tokenizer.padding_side == before and configs.undo() == []


def test_a_tokenizer_without_padding_is_saved_without(tmp_path: Path, fttool_recipe: dict[str, Any]) -> None:
    tiny_model().save_pretrained(tmp_path / "source")
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = None
    tokenizer.save_pretrained(tmp_path / "source")
    fttool_recipe["model"] = {"source": str(tmp_path / "source")}
    done = run_recipe(fttool_recipe, tmp_path)
    assert done.error is None
    before, after = (AutoTokenizer.from_pretrained(at) for at in (tmp_path / "source", done.run_dir / "model"))
    assert before.pad_token is None and after.pad_token is None and after.eos_token == before.eos_token
