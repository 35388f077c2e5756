"""Answers to several prompts at once are those to each alone, on any model; padding that changes one is found."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from fttool.testing import tiny_model, tiny_tokenizer
from fttool.training.answering import Answering

from ...architectures import OLDER, SMALL

MORE: dict[str, dict[str, Any]] = {
    "opt": {**OLDER, "ffn_dim": 32, "word_embed_proj_dim": 16},
    "gpt_neo": {
        **{key: value for key, value in OLDER.items() if not key.startswith("num_")},
        "num_layers": 2,
        "num_heads": 2,
        "attention_types": [[["global", "local"], 1]],
    },
    "bloom": {"vocab_size": 48, "hidden_size": 16, "n_layer": 2, "n_head": 2},
    "gptj": {"vocab_size": 48, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64, "rotary_dim": 4},
    "gpt2": {"vocab_size": 48, "n_embd": 16, "n_layer": 3, "n_head": 2, "n_positions": 64},
    "gpt_neox": OLDER,
    "llama": SMALL,
    "qwen3": SMALL,
    "gemma2": {**SMALL, "sliding_window": 8},
    "mistral": {**SMALL, "sliding_window": 4},
    "mixtral": {**SMALL, "num_local_experts": 2},
    "mamba": {"vocab_size": 48, "hidden_size": 16, "state_size": 4, "num_hidden_layers": 2, "pad_token_id": 0},
    "rwkv": {"vocab_size": 48, "hidden_size": 16, "attention_hidden_size": 16, "num_hidden_layers": 2},
}
PROMPTS = [[5, 6, 7], [9], [11, 12, 13, 14, 15, 16, 17, 18, 19], [20, 21], [8, 7, 6, 5, 4], [30, 31, 32, 33]]


class Words:
    """A tokenizer of numbers: an answer is the list of its tokens."""

    pad_token_id, eos_token_id = 0, 2

    def decode(self, ids: list[int], **_: Any) -> str:
        return " ".join(map(str, ids))


def tiny(kind: str) -> Any:
    torch.manual_seed(3)
    config = AutoConfig.for_model(kind, bos_token_id=1, eos_token_id=2, **MORE[kind])
    model = AutoModelForCausalLM.from_config(config).eval()
    for p in model.parameters():  # far from uniform, or rounding decides between tokens
        p.data.mul_(4 if p.ndim > 1 else 1)
    return model


def asking(model: Any, at_once: int = 4, **changes: Any) -> Answering:
    tokenizer: Any = Words()
    return Answering(model=model, tokenizer=tokenizer, at_once=at_once, **changes)


def by_hand(model: Any, prompt: list[int], longest: int) -> str:
    """The likeliest token, again and again, through the whole text each time."""
    ids = list(prompt)
    for _ in range(longest):
        with torch.no_grad():
            ids.append(int(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
        if ids[-1] == 2:
            break
    return " ".join(map(str, ids[len(prompt) :]))


@pytest.mark.parametrize("kind", MORE)
def test_answers_are_those_of_a_loop_by_hand(kind: str) -> None:
    model = tiny(kind)
    together = asking(model)
    found = together.ask(PROMPTS, 6)
    assert found == [by_hand(model, prompt, 6) for prompt in PROMPTS]
    assert together.tokens == sum(len(one.split()) for one in found)
    assert together.alone is not None and bool(together.alone) == (kind == "rwkv")


@pytest.mark.parametrize("kind", ["llama", "gpt2", "opt", "gptj", "gpt_neo", "qwen3", "mistral", "gemma2"])
def test_models_of_attention_are_asked_together(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sorted by length, so that little is padded; and the modes of its modules come back."""
    model = tiny(kind).train()
    answering, widths = asking(model, at_once=3), list[tuple[int, int]]()
    padded = answering._padded
    monkeypatch.setattr(
        answering, "_padded", lambda some: widths.append((len(some), max(map(len, some)))) or padded(some)
    )
    answering.ask(PROMPTS, 2)
    assert answering.alone == ""
    assert widths[2:] == [(3, 9), (3, 3)], "after the two of the trial"
    assert model.training


def test_a_model_that_takes_padding_for_text_is_asked_one_by_one() -> None:
    """Whatever it is called: a planted fault, a mask that is not heeded."""
    model = tiny("llama")
    heed = model.model.forward
    model.model.forward = lambda *args, attention_mask=None, position_ids=None, **more: heed(*args, **more)
    answering = asking(model)
    found = answering.ask(PROMPTS, 4)
    assert answering.alone is not None and answering.alone.startswith("padding changes its logits by")
    assert found == [by_hand(model, prompt, 4) for prompt in PROMPTS]


def test_a_model_that_refuses_padding_is_asked_one_by_one() -> None:
    model = tiny("llama")
    heed = model.model.forward

    def refusing(*args: Any, attention_mask: Any = None, **more: Any) -> Any:
        if isinstance(attention_mask, torch.Tensor) and attention_mask.ndim == 2 and not attention_mask.all():
            raise NotImplementedError("no padding on the left")
        return heed(*args, attention_mask=attention_mask, **more)

    model.model.forward = refusing
    answering = asking(model)
    assert answering.ask(PROMPTS, 4) == [by_hand(model, prompt, 4) for prompt in PROMPTS]
    assert answering.alone is not None and "no padding on the left" in answering.alone


def test_answers_end_where_the_model_has_no_positions_left() -> None:
    """Each has what its own prompt leaves, whatever stands beside it; none is empty."""
    model = tiny("gpt2")
    answering = asking(model, positions=12)
    found = answering.ask(PROMPTS, 6)
    assert found[2] == by_hand(model, PROMPTS[2], 3) and len(found[2].split()) <= 3
    assert found[:2] == [by_hand(model, prompt, 6) for prompt in PROMPTS[:2]]
    full = [[3] * 12]
    assert answering.ask(full, 6) == [""] and answering.room(full[0], 6) == 0


def test_an_answer_ends_with_its_end_and_not_with_that_of_others() -> None:
    """Each of several ends counts, and what stands after it is padding; the end is no part of the text."""
    model = tiny_model()
    ends = {int(by_hand(model, prompt, 3).split()[-1]) for prompt in PROMPTS[:2]}
    model.generation_config.eos_token_id = sorted(ends)
    tokenizer = tiny_tokenizer()
    together = Answering(model=model, tokenizer=tokenizer, at_once=6)
    alone = Answering(model=model, tokenizer=tokenizer, at_once=1)
    assert together.ask(PROMPTS, 12) == alone.ask(PROMPTS, 12)
    assert together.tokens == alone.tokens < 6 * 12


def test_nothing_is_tried_of_one_prompt() -> None:
    answering = asking(tiny("llama"))
    assert answering.ask([], 3) == [] and answering.ask([[5, 6]], 3) and answering.alone is None
