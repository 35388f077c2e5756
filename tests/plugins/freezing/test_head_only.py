"""`head-only`: the head trains by itself, on a copy of the embeddings where it shared them."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from fttool.api import FreezingContext, ModelError, layers
from fttool.testing import RunResult, run_recipe, tiny_model, tiny_tokenizer
from fttool_plugins.freezing.head_only import HeadOnly

from ...architectures import CAUSAL, tiny
from ...runs import assert_same_weights, weights
from .contexts import units


@pytest.fixture
def recipe(tmp_path: Path, fttool_recipe: dict[str, Any]) -> dict[str, Any]:
    """Over a model whose head shares the embeddings, saved without the second name of that weight."""
    tied = tiny_model(tie_word_embeddings=True)
    tied.save_pretrained(tmp_path / "tied")
    tiny_tokenizer().save_pretrained(tmp_path / "tied")
    fttool_recipe["run"] = {"epochs": 2, "micro_batch": 2, "global_batch": 8, "log_every": 1}
    fttool_recipe["model"] = {"source": str(tmp_path / "tied")}
    fttool_recipe["optimizer"] = {"name": "adamw", "lr": 1e-2}
    fttool_recipe["freezing"] = {"name": "head-only", "untie": True}
    return fttool_recipe


def test_a_shared_head_is_refused_with_both_ways_out(recipe: dict[str, Any], tmp_path: Path) -> None:
    recipe["freezing"] = {"name": "head-only"}
    refused = run_recipe(recipe, tmp_path)
    assert refused.exit_code == 5 and "shares its weights with the input embeddings" in str(refused.error)
    assert "untie = true" in str(refused.error) and 'freezing = "full"' in str(refused.error)
    assert not refused.run_dir.exists()


def test_an_untied_head_trains_and_is_saved_beside_the_old_embeddings(recipe: dict[str, Any], tmp_path: Path) -> None:
    before = load_file(tmp_path / "tied" / "model.safetensors")
    assert "lm_head.weight" not in before
    run = run_recipe(recipe, tmp_path)
    after = weights(run)
    assert after.keys() == {*before, "lm_head.weight"}
    for name, tensor in before.items():
        assert torch.equal(after[name], tensor), name
    assert not torch.equal(after["lm_head.weight"], before["model.embed_tokens.weight"])
    assert run.summary["trained_parameters"] == after["lm_head.weight"].numel()
    assert json.loads((run.run_dir / "model" / "config.json").read_text())["tie_word_embeddings"] is False
    loaded, report = AutoModelForCausalLM.from_pretrained(run.run_dir / "model", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert torch.equal(loaded.lm_head.weight, after["lm_head.weight"])
    assert torch.equal(loaded.model.embed_tokens.weight, before["model.embed_tokens.weight"])


@pytest.mark.parametrize("kind", list(CAUSAL))
def test_untying_changes_nothing_at_first_on_any_architecture(kind: str, tmp_path: Path) -> None:
    model = tiny(kind, tied=True)
    ids_1T = torch.tensor([[4, 5, 6, 7]])
    before = model(input_ids=ids_1T).logits
    [unit] = units(HeadOnly(untie=True), model)
    found = layers(model)
    assert not found.tied and unit.parameters == set(found.head)
    assert torch.equal(model(input_ids=ids_1T).logits, before)
    model.tie_weights()  # transformers may call it again
    assert not layers(model).tied
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(2)
    trained = model(input_ids=ids_1T).logits
    model.save_pretrained(tmp_path)
    loaded, report = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    torch.testing.assert_close(loaded(input_ids=ids_1T).logits, trained)


def test_a_head_of_its_own_is_left_as_it_is() -> None:
    model = tiny_model()
    head = model.lm_head.weight
    units(HeadOnly(untie=True), model)
    assert model.lm_head.weight is head


def test_what_the_source_does_not_give_trains_too() -> None:
    model = tiny("bert")
    pooler = frozenset({"bert.pooler.dense.weight", "bert.pooler.dense.bias"})
    [unit] = units(HeadOnly(), model, new=pooler)
    assert unit.parameters == pooler | {"classifier.weight", "classifier.bias"}


def test_a_model_without_a_head_is_refused() -> None:
    model = tiny_model().model
    with pytest.raises(ModelError, match="LlamaModel has no head"):
        HeadOnly(untie=True).build(
            FreezingContext(model=model, layers=layers(model), total_steps=1, steps_per_epoch=1, seed=0)
        )


# -- checkpoints -------------------------------------------------------------------------------------------------


def resumed_from(run: RunResult, recipe: dict[str, Any], folder: Path, step: int) -> RunResult:
    """The run, resumed from an earlier checkpoint in a folder of its own."""
    shutil.copytree(run.run_dir, folder / "runs" / "recipe")
    for path in (folder / "runs" / "recipe" / "checkpoints").iterdir():
        if int(path.name.removeprefix("checkpoint-")) > step:
            shutil.rmtree(path)
    return run_recipe(recipe, folder, resume=True)


def test_a_checkpoint_holds_the_head_alone_and_resumes_bitwise(recipe: dict[str, Any], tmp_path: Path) -> None:
    recipe["checkpoints"] = {"every": 1, "keep": 9}
    whole = run_recipe(recipe, tmp_path)
    held = load_file(whole.run_dir / "checkpoints" / "checkpoint-2" / "trained.safetensors")
    assert set(held) == {"lm_head.weight"}
    names = {path.name for path in (whole.run_dir / "checkpoints" / "checkpoint-2").iterdir()}
    assert not names & {"model.safetensors", "config.json", "tokenizer.json"}
    resumed = resumed_from(whole, recipe, tmp_path / "resumed", 2)
    assert_same_weights(whole, resumed)


def test_the_best_checkpoint_becomes_the_model(recipe: dict[str, Any], tmp_path: Path) -> None:
    recipe["data"]["eval_share"] = 0.2
    recipe["run"]["max_steps"] = recipe["run"].pop("epochs") * 15
    recipe["optimizer"]["lr"] = 1.0  # learns fast, then only gets worse
    recipe["schedule"] = "constant"
    recipe["evaluation"] = {"every": 1, "early_stopping": 3, "best": "loss", "samples": 0}
    run = run_recipe(recipe, tmp_path)
    best = run.summary["best"]["step"]
    assert 0 < best < run.summary["steps"]
    held = load_file(run.run_dir / "checkpoints" / f"checkpoint-{best}" / "trained.safetensors")
    assert torch.equal(weights(run)["lm_head.weight"], held["lm_head.weight"])
    assert run.summary["eval"]["after"]["loss"] == pytest.approx(run.summary["best"]["value"], rel=1e-6)


def test_a_source_of_other_weights_is_refused_though_its_size_is_the_same(
    recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fttool_plugins.model.loading.HASHED_UP_TO", 0)  # as if the file were too large to be hashed
    recipe["checkpoints"] = {"every": 1, "keep": 9}
    recipe["run"]["max_steps"] = recipe["run"].pop("epochs") * 3
    whole = run_recipe(recipe, tmp_path)
    file = tmp_path / "tied" / "model.safetensors"
    tensors = load_file(file)
    tensors["model.norm.weight"][0] += 0.5
    save_file(tensors, file, metadata={"format": "pt"})
    refused = resumed_from(whole, recipe, tmp_path / "resumed", 2)
    assert refused.exit_code == 2 and "are not those it was saved beside" in str(refused.error)


def test_full_fine_tuning_keeps_all_weights(recipe: dict[str, Any], tmp_path: Path) -> None:
    recipe["freezing"] = "full"
    run = run_recipe(recipe, tmp_path)
    held = load_file(run.run_dir / "checkpoints" / f"checkpoint-{run.summary['steps']}" / "trained.safetensors")
    final = weights(run)
    assert held.keys() == dict(AutoModelForCausalLM.from_pretrained(run.run_dir / "model").named_parameters()).keys()
    for name, tensor in held.items():
        assert torch.equal(final[name], tensor), name
