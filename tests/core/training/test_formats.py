"""The final model is saved in the formats of its source, or as the recipe says; checkpoints keep the masters."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from fttool.errors import ModelError
from fttool.testing import run_recipe
from fttool.testing.tiny import tiny_model, tiny_tokenizer
from fttool.training.formats import Formats, put_into, saved_formats
from fttool.training.stored import stored_formats


def source(folder: Path, dtype: torch.dtype, **changes: Any) -> Path:
    """A tiny model in this format, some of its weights in others."""
    model: Any = tiny_model()
    model.to(dtype).save_pretrained(folder)
    if changes:
        tensors = load_file(folder / "model.safetensors")
        tensors |= {name: tensors[name].to(kind) for name, kind in changes.items()}
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    tiny_tokenizer().save_pretrained(folder)
    return folder


def formats_in(folder: Path) -> dict[str, str]:
    """What safetensors itself says."""
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        return {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118 - no mapping


@pytest.fixture
def run(tmp_path: Path, fttool_recipe: dict[str, Any]) -> Callable[..., Any]:
    def made(where: Path, name: str = "recipe", **checkpoints: Any) -> Any:
        fttool_recipe["run"]["name"] = name
        fttool_recipe["model"] = {"source": str(where)}
        fttool_recipe["checkpoints"] = checkpoints or {"keep": 2}
        fttool_recipe["data"]["eval_share"] = 0.25
        return run_recipe(fttool_recipe, tmp_path)

    return made


@pytest.mark.parametrize(("dtype", "spelled"), [("float32", "F32"), ("bfloat16", "BF16"), ("float16", "F16")])
def test_a_model_is_saved_as_it_came(tmp_path: Path, run: Callable[..., Any], dtype: str, spelled: str) -> None:
    done = run(source(tmp_path / "source", getattr(torch, dtype)))
    assert set(formats_in(done.run_dir / "model").values()) == {spelled}
    assert json.loads((done.run_dir / "model" / "config.json").read_text())["dtype"] == dtype
    assert AutoModelForCausalLM.from_pretrained(done.run_dir / "model").dtype == getattr(torch, dtype)


@pytest.mark.parametrize(("asked", "spelled"), [("float32", "F32"), ("bfloat16", "BF16"), ("float16", "F16")])
def test_the_recipe_may_ask_for_another_format(
    tmp_path: Path, run: Callable[..., Any], asked: str, spelled: str
) -> None:
    done = run(source(tmp_path / "source", torch.bfloat16), dtype=asked)
    assert set(formats_in(done.run_dir / "model").values()) == {spelled}


def test_single_weights_keep_a_format_of_their_own(tmp_path: Path, run: Callable[..., Any]) -> None:
    """As norms and the scales of recurrent layers, which many 16-bit models hold in float32."""
    own = {"model.norm.weight": torch.float32, "lm_head.weight": torch.float16}
    where = source(tmp_path / "source", torch.bfloat16, **own)
    done = run(where)
    assert formats_in(done.run_dir / "model") == formats_in(where)


def test_what_is_measured_is_what_is_saved(tmp_path: Path, run: Callable[..., Any]) -> None:
    """The last metrics are those of the rounded weights: the same numbers as of the saved folder, read in float32."""
    done = run(source(tmp_path / "source", torch.bfloat16))
    [final] = [line for line in done.metrics if line.get("final")]
    last = [line for line in done.metrics if "eval_loss" in line][-2]
    assert final["eval_loss"] != last["eval_loss"]
    assert done.summary["eval"]["after"]["loss"] == final["eval_loss"]
    again = run(done.run_dir / "model", name="again")
    assert again.summary["eval"]["before"]["loss"] == pytest.approx(final["eval_loss"], abs=1e-9)


def test_a_format_that_holds_all_costs_no_second_evaluation(tmp_path: Path, run: Callable[..., Any]) -> None:
    done = run(source(tmp_path / "source", torch.float32))
    assert not [line for line in done.metrics if line.get("final")]


def test_checkpoints_keep_the_masters(tmp_path: Path, run: Callable[..., Any]) -> None:
    """What is resumed is what was trained, not what was rounded; and `[checkpoints] dtype` may change on the way."""
    done = run(source(tmp_path / "source", torch.bfloat16), every=2)
    masters = load_file(done.run_dir / "checkpoints" / "checkpoint-4" / "trained.safetensors")
    saved = load_file(done.run_dir / "model" / "model.safetensors")
    assert {tensor.dtype for tensor in masters.values()} == {torch.float32}
    assert all(torch.equal(masters[name].bfloat16(), tensor) for name, tensor in saved.items())
    assert any(not torch.equal(masters[name], tensor.float()) for name, tensor in saved.items())


def test_adapters_are_added_and_then_rounded(tmp_path: Path, fttool_recipe: dict[str, Any]) -> None:
    where = source(tmp_path / "source", torch.bfloat16)
    fttool_recipe |= {"model": {"source": str(where)}, "freezing": {"name": "lora", "rank": 2}}
    done = run_recipe(fttool_recipe, tmp_path)
    assert formats_in(done.run_dir / "model") == formats_in(where)
    before, after = (load_file(folder / "model.safetensors") for folder in (where, done.run_dir / "model"))
    assert any(not torch.equal(before[name], tensor) for name, tensor in after.items())


def test_tied_weights_stay_tied() -> None:
    model = tiny_model(tie_word_embeddings=True)
    put_into(Formats({}, torch.bfloat16), model)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert model.lm_head.weight.dtype == torch.bfloat16


def test_numbers_beyond_float16_are_refused() -> None:
    model = tiny_model()
    with torch.no_grad():
        model.lm_head.weight[0, 0] = 1e5
    with pytest.raises(ModelError, match=r"lm_head\.weight are beyond float16"):
        put_into(Formats({}, torch.float16), model)


def test_the_most_common_format_serves_what_has_another_name(tmp_path: Path) -> None:
    floats = {f"layer.{n}": torch.zeros(2, dtype=torch.bfloat16) for n in range(3)}
    save_file({**floats, "norm": torch.zeros(2), "ids": torch.zeros(2, dtype=torch.int64)}, tmp_path / "a.safetensors")
    stored = stored_formats(tmp_path)
    assert stored == {**dict.fromkeys(floats, "bfloat16"), "norm": "float32"}
    formats, some = saved_formats("source", stored), torch.zeros(1)
    assert formats.of("joined", some) == torch.bfloat16 and formats.of("norm", some) == torch.float32
    assert formats.of("count", torch.zeros(1, dtype=torch.int64)) == torch.int64
    assert saved_formats("source", {}).of("any", some) == torch.float32
