"""The compact head gives the same losses and gradients as full logits, on any architecture."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoConfig, AutoModelForCausalLM

from fttool.api import TaskContext
from fttool_plugins.task.sft import SupervisedFineTuning, score

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


def test_the_hook_is_gone_afterwards() -> None:
    model = tiny("llama")
    score(model, batch())
    assert not model.lm_head._forward_pre_hooks
    assert model(input_ids=batch()["input_ids"]).logits.shape == (3, 12, 48)


def test_it_is_trls_trainer() -> None:
    from trl import SFTTrainer

    assert SupervisedFineTuning().build(TaskContext()).trainer_class is SFTTrainer
