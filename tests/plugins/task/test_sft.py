"""The compact head gives the same losses and gradients as full logits, on any architecture."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoConfig, AutoModelForCausalLM

from fttool.api import Losses, TaskContext
from fttool_plugins.task.in_parts import places_at_once
from fttool_plugins.task.sft import SupervisedFineTuning, learn, score

from ... import causal
from ...architectures import GPT2, SIZES

SMALL = {**SIZES, "num_key_value_heads": 1, "head_dim": 8}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": SMALL,
    "qwen3": SMALL,
    "gemma2": {**SMALL, "final_logit_softcapping": 5.0},  # squashes the logits after the head
    "granite": {**SMALL, "logits_scaling": 3.0},
    "cohere": {**SMALL, "logit_scale": 0.5},
    "gpt2": GPT2,
    "gpt_neox": SIZES,
}


def tiny(kind: str) -> Any:
    options = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, **ARCHITECTURES[kind]}
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **options)).train()


def batch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    input_ids = torch.randint(3, 48, (3, 12), generator=generator)
    labels = input_ids.clone()
    labels[:, :4] = -100
    labels[0, 7:] = -100
    attention_mask = torch.ones_like(input_ids)
    attention_mask[0, 7:] = 0
    return {"input_ids": input_ids, "labels": labels, "attention_mask": attention_mask}


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_losses_and_gradients_equal_those_of_full_logits(kind: str) -> None:
    model, rows = tiny(kind), batch()
    if kind == "gpt2":
        model.eval()  # no dropout, gradients all the same
    logits = model(input_ids=rows["input_ids"], attention_mask=rows["attention_mask"]).logits
    naive = F.cross_entropy(logits[:, :-1].flatten(0, 1), rows["labels"][:, 1:].flatten(), reduction="sum")
    naive.backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()

    predictions = score(model, rows)
    predictions.losses_N.sum().backward()

    learned = int((rows["labels"][:, 1:] != -100).sum())
    assert predictions.logits_NV.shape == (learned, 48)
    torch.testing.assert_close(predictions.losses_N.sum(), naive, rtol=1e-6, atol=1e-5)
    for name, parameter in model.named_parameters():
        if name in expected:
            torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-5, atol=1e-5)


def gradients(model: Any, by: Any) -> dict[str, torch.Tensor]:
    model.zero_grad()
    (by.losses_N.sum() + sum(by.terms.values(), 0.0)).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("at_once", [1, 3, 100])
@pytest.mark.parametrize("kind", [*ARCHITECTURES, "opt", "minicpm3", "mixtral"])
def test_part_by_part_is_the_same(kind: str, at_once: int) -> None:
    model = causal.tiny_causal(kind) if kind not in ARCHITECTURES else tiny(kind).eval()
    model.config.output_router_logits = kind == "mixtral"
    model.train(kind == "mixtral")  # its router is balanced while it learns
    seen: list[int] = []
    handle = model.get_output_embeddings().register_forward_hook(lambda _, __, out: seen.append(out[..., 0].numel()))
    parts = learn(model, batch(), at_once)
    ours = gradients(model, parts)
    handle.remove()
    whole = score(model, batch())
    assert type(parts) is Losses and parts.terms.keys() == whole.terms.keys()
    torch.testing.assert_close(parts.losses_N, whole.losses_N, rtol=1e-6, atol=1e-6)
    expected = gradients(model, whole)
    assert ours.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-5, atol=1e-5)
    count = len(whole.losses_N)
    assert max(seen) == min(at_once, count) and sum(seen) == 2 * count  # once more in the backward pass


def test_part_by_part_of_nothing_learns_nothing() -> None:
    model, rows = tiny("llama"), batch()
    rows["labels"][:] = -100
    by = learn(model, rows, 3)
    assert by.losses_N.shape == (0,)
    assert all(not gradient.any() for gradient in gradients(model, by).values())


def test_the_layers_are_as_before_where_they_fail() -> None:
    model: Any = tiny("llama")
    before = dict(model.model.__dict__)
    handle = model.lm_head.register_forward_pre_hook(lambda *_: torch.zeros(1) @ torch.zeros(2))
    with pytest.raises(RuntimeError, match="size"):
        learn(model, batch(), 3)
    handle.remove()
    assert not model.model._forward_hooks and dict(model.model.__dict__) == before


@pytest.mark.parametrize(
    ("vocabulary", "tokens", "places"), [(50_000, 2_000, None), (128_000, 4_096, 524), (99, 9, None)]
)
def test_all_places_go_at_once_where_that_is_not_much(vocabulary: int, tokens: int, places: int | None) -> None:
    assert places_at_once(vocabulary, tokens) == places


def test_the_hook_is_gone_afterwards() -> None:
    model = tiny("llama")
    score(model, batch())
    assert not model.lm_head._forward_pre_hooks
    assert model(input_ids=batch()["input_ids"]).logits.shape == (3, 12, 48)


def test_it_is_trls_trainer() -> None:
    from trl import SFTTrainer

    assert SupervisedFineTuning().build(TaskContext()).trainer_class is SFTTrainer
