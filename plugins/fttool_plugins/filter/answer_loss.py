"""How likely a model finds an answer, with its prompt and without."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from fttool.api import Example, FilterContext, LoadOptions, Message, Source, chat_ids
from fttool_plugins.filter.parts import part_text

Losses = list[float | None]
"""Of each row the mean loss of its answer's tokens, in nats; None where the row has no answer or cannot be written."""


def answer_losses(examples: Sequence[Example], ctx: FilterContext, *, prompted: bool, longest: int) -> Losses:
    """The loss of each answer, up to `longest` tokens of prompt and of answer, under the recipe's model as it is
    loaded.

    Without `prompted` the prompt is empty. What has been computed before, for the same tokens and model, waits in the
    filter's folder.
    """
    pieces = [tokens(example, ctx, prompted=prompted, longest=longest) for example in examples]
    source = ctx.source()
    kept = _Kept(ctx.cache() / "losses.json", source.origin)
    model: Any = None
    losses: Losses = []
    try:
        for piece in ctx.track(pieces, "asking the model"):
            if piece is not None and piece not in kept:
                model = model or loaded(source)
                kept[piece] = answer_loss(model, *piece)
            losses.append(None if piece is None else kept[piece])
    finally:  # who is interrupted goes on from there
        kept.write()
    return losses


def loaded(source: Source) -> Any:
    """The model in float32 on the CPU, so that each process of a run comes to the same numbers."""
    from transformers import AutoModelForCausalLM

    options = LoadOptions(model_class=AutoModelForCausalLM, dtype=torch.float32, attention=None)
    return source.model(options).eval()


Piece = tuple[tuple[int, ...], tuple[int, ...]]
"""A prompt in tokens, and an answer."""


def tokens(example: Example, ctx: FilterContext, *, prompted: bool, longest: int) -> Piece | None:
    """The end of the prompt and the beginning of the answer; None where there is no answer, or no way to write it."""
    tokenizer: Any = ctx.tokenizer
    text = part_text(example, "answer") if example.labels is None else ""
    answer = tokenizer(text, add_special_tokens=False)["input_ids"]
    try:
        prompt = _prompt(example, tokenizer, prompted=prompted)
    except ValueError:
        return None
    if not prompt and (start := tokenizer.bos_token_id or tokenizer.eos_token_id) is not None:
        prompt = [start]
    return (tuple(prompt[-longest:]), tuple(answer[:longest])) if prompt and answer else None


def _prompt(example: Example, tokenizer: Any, *, prompted: bool) -> list[int]:
    if not example.messages:
        return tokenizer(example.prompt)["input_ids"] if prompted and example.prompt else []
    empty: list[Message] = [{"role": "user", "content": ""}]
    asked = example.messages[: example.completion_from] if prompted else empty
    return chat_ids(tokenizer, asked, add_generation_prompt=True, **example.template)


def answer_loss(model: Any, prompt: Sequence[int], answer: Sequence[int]) -> float:
    """The mean loss of the answer's tokens behind the prompt, in nats."""
    ids = torch.tensor([[*prompt, *answer]], device=model.device)
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0, len(prompt) - 1 : -1].float()
    return float(torch.nn.functional.cross_entropy(logits, ids[0, len(prompt) :]))


class _Kept:
    """Losses in a file, under a hash of the model and the tokens."""

    def __init__(self, file: Path, origin: Mapping[str, str]) -> None:
        self.file, self.origin = file, json.dumps(dict(origin), sort_keys=True)
        self.losses: dict[str, float] = json.loads(file.read_text()) if file.exists() else {}

    def _key(self, piece: Piece) -> str:
        return hashlib.sha256(f"{self.origin}{piece}".encode()).hexdigest()

    def __contains__(self, piece: Piece) -> bool:
        return self._key(piece) in self.losses

    def __getitem__(self, piece: Piece) -> float:
        return self.losses[self._key(piece)]

    def __setitem__(self, piece: Piece, loss: float) -> None:
        self.losses[self._key(piece)] = loss

    def write(self) -> None:
        """Beside the file first, so that no process reads half of it."""
        beside = self.file.with_suffix(f".{os.getpid()}")
        beside.write_text(json.dumps(self.losses))
        beside.replace(self.file)
