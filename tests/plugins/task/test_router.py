"""The router's load-balancing loss: by its formula, over real tokens, over a whole update, apart from the loss."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from fttool.api import Encoded
from fttool.errors import ModelError
from fttool.testing import run_recipe
from fttool.testing.tiny import tiny_model, tiny_tokenizer
from fttool_plugins.batching import collate
from fttool_plugins.task.router import balancing_loss, refuse_without_router
from fttool_plugins.task.sft import score

SMALL: dict[str, Any] = {
    "vocab_size": 128,
    "hidden_size": 16,
    "intermediate_size": 32,
    "moe_intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "num_experts": 4,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "router_aux_loss_coef": 0.1,
    "initializer_range": 0.5,  # uneven routers
    "pad_token_id": 0,
}
MIXTURES = ("mixtral", "qwen3_moe", "qwen2_moe", "olmoe", "phimoe", "granitemoe", "gpt_oss")


def mixture(kind: str, **changes: Any) -> Any:
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **{**SMALL, **changes})
    return AutoModelForCausalLM.from_config(config).train()


def rows(*lengths: int) -> list[Encoded]:
    draw = torch.Generator().manual_seed(1)
    found = [torch.randint(4, 100, (length,), generator=draw).tolist() for length in lengths]
    return [Encoded(ids, [-100] * (len(ids) // 2) + ids[len(ids) // 2 :]) for ids in found]


def naive(gates: list[torch.Tensor], top_k: int) -> float:
    """Equations 4 to 6 token by token; layers count as more tokens."""
    tokens = [token for gate in gates for token in gate.softmax(-1).tolist()]
    experts = len(tokens[0])
    chosen, probable = [0.0] * experts, [0.0] * experts
    for token in tokens:
        for expert in sorted(range(experts), key=lambda expert: -token[expert])[:top_k]:
            chosen[expert] += 1 / len(tokens)
        for expert in range(experts):
            probable[expert] += token[expert] / len(tokens)
    return experts * sum(f * p for f, p in zip(chosen, probable, strict=True))


def test_it_is_the_formula() -> None:
    gates = [torch.randn(9, 5, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    real = torch.tensor([True] * 6 + [False] * 3)
    assert float(balancing_loss(gates, 2, real)) == pytest.approx(naive([gate[:6] for gate in gates], 2), rel=1e-6)


@pytest.mark.parametrize("kind", MIXTURES)
def test_it_is_the_models_own_times_the_coefficient(kind: str) -> None:
    model, batch = mixture(kind), collate.padded([[row] for row in rows(12, 7, 9)], 0)
    theirs = model(**{**batch, "labels": None}, output_router_logits=True).aux_loss
    ours = score(model, batch, router_loss=0.5).terms["router_loss"]
    assert ours.item() == pytest.approx(0.5 * theirs.item(), rel=1e-5)
    ours.backward()
    routers = [p for name, p in model.named_parameters() if "gate.weight" in name or "router" in name]
    assert any(p.grad is not None and p.grad.any() for p in routers)


@pytest.mark.parametrize("kind", ["mixtral", "qwen3_moe", "olmoe"])
def test_padding_does_not_count_in_packed_rows_either(kind: str) -> None:
    model, (first, second, third) = mixture(kind), rows(12, 7, 5)
    asked = [torch.tensor([row.input_ids]) for row in (first, second, third)]
    alone = [model(input_ids=ids, output_router_logits=True) for ids in asked]
    gates = [torch.cat([one.router_logits[layer] for one in alone]) for layer in range(2)]
    packed = collate.packed([[first, second], [third]], 0)
    assert packed["input_ids"].shape == (2, 19)
    found = score(model, packed, router_loss=1.0).terms["router_loss"]
    assert float(found.detach()) == pytest.approx(naive(gates, 2), rel=1e-5)


def test_it_is_on_where_the_configuration_says_so_and_only_while_training() -> None:
    batch = collate.padded([[row] for row in rows(12, 7)], 0)
    on, off = (mixture("mixtral", output_router_logits=value) for value in (True, False))
    assert set(score(on, batch).terms) == {"router_loss"} and not score(off, batch).terms
    assert not score(on, batch, router_loss=0.0).terms and score(off, batch, router_loss=0.1).terms
    losses = score(on, batch).losses_N
    assert not score(on.eval(), batch).terms
    torch.testing.assert_close(score(on, batch).losses_N, losses)


def test_a_model_without_a_router_is_refused() -> None:
    with pytest.raises(ModelError, match="is not a mixture of experts"):
        refuse_without_router(tiny_model(), 0.1)
    refuse_without_router(tiny_model(), 0.0)
    refuse_without_router(tiny_model(), None)


# -- in a run ------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["mixtral", "qwen3_moe"])
def recipe(tmp_path: Path, fttool_recipe: dict[str, Any], request: pytest.FixtureRequest) -> dict[str, Any]:
    mixture(request.param).save_pretrained(tmp_path / "source")
    tiny_tokenizer().save_pretrained(tmp_path / "source")
    fttool_recipe["model"] = {"source": str(tmp_path / "source")}
    fttool_recipe["run"] |= {"micro_batch": 2, "global_batch": 8}
    fttool_recipe["schedule"] = "constant"
    return fttool_recipe


def test_it_is_off_where_the_model_says_off_and_said(tmp_path: Path, recipe: dict[str, Any]) -> None:
    recipe["run"]["max_steps"] = 2
    silent = run_recipe(recipe, tmp_path)
    [note] = [event["text"] for event in silent.events if event["event"] == "noted"]
    assert note.startswith("the router's load-balancing loss is off") and "task.router_loss = 0.1" in note
    assert all("router_loss" not in line for line in silent.metrics)
    recipe["run"]["name"], recipe["task"] = "zero", {"name": "sft", "router_loss": 0.0}
    zero = run_recipe(recipe, tmp_path)
    one, other = (load_file(done.run_dir / "model" / "model.safetensors") for done in (silent, zero))
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_an_update_has_the_mean_over_its_tokens(tmp_path: Path, recipe: dict[str, Any]) -> None:
    """Of the first update, against each micro-batch by itself; `loss` stays that of the tokens."""
    seen: list[tuple[int, float]] = []
    recipe["run"]["max_steps"] = 1
    recipe["task"] = {"name": "sft", "router_loss": 0.0}
    plain = run_recipe(recipe, tmp_path)
    recipe["run"]["name"], recipe["task"] = "balanced", {"name": "sft", "router_loss": 0.3}
    with pytest.MonkeyPatch.context() as patch:
        from fttool_plugins.task import router

        def watched(model: Any, outputs: Any, batch: Any) -> Any:
            value = router_balancing(model, outputs, batch)
            seen.append((int(batch["attention_mask"].sum()), value.item()))
            return value

        router_balancing = router.balancing
        patch.setattr(router, "balancing", watched)
        balanced = run_recipe(recipe, tmp_path)
    seen = seen[-4:]  # before the update the model is tried
    mean = sum(tokens * value for tokens, value in seen) / sum(tokens for tokens, _ in seen)
    assert balanced.metrics[0]["router_loss"] == pytest.approx(0.3 * mean, rel=1e-5)
    assert balanced.metrics[0]["loss"] == pytest.approx(plain.metrics[0]["loss"], abs=1e-6)
    assert balanced.metrics[0]["grad_norm"] != pytest.approx(plain.metrics[0]["grad_norm"], rel=1e-3)


def test_a_resumed_line_has_what_was_not_logged_yet(tmp_path: Path, recipe: dict[str, Any]) -> None:
    recipe["task"] = {"name": "sft", "router_loss": 0.3}
    recipe["run"] |= {"max_steps": 6, "log_every": 3}
    recipe["checkpoints"] = {"every": 4, "keep": 9}
    whole = run_recipe(recipe, tmp_path)
    model = load_file(whole.run_dir / "model" / "model.safetensors")
    lines = [line for line in whole.metrics if "loss" in line]
    assert [line["step"] for line in lines] == [1, 3, 6] and all("router_loss" in line for line in lines)
    shutil.rmtree(whole.run_dir / "checkpoints" / "checkpoint-6")
    shutil.rmtree(whole.run_dir / "model")
    (whole.run_dir / "summary.json").unlink()
    again = run_recipe(recipe, tmp_path, resume=True)
    assert again.error is None
    again_lines = [line for line in again.metrics if "loss" in line]
    assert [line["router_loss"] for line in again_lines] == [line["router_loss"] for line in lines]
    resumed = load_file(again.run_dir / "model" / "model.safetensors")
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in model.items()), "experts, too"
