"""A model's answers to prompts, several at once where padding changes none of them.

Prompts that are answered together are padded on the left to the longest of them. Whether a model then says what it says
to each alone is not to be known by its name: attention may count positions from the padding, and a recurrent layer may
take it for text. So the shortest prompt is first answered for a few tokens by itself and beside the longest one; where
its logits differ by more than rounding, every prompt is answered by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fttool.errors import gist
from fttool.machine import ran_out_of_memory
from fttool.training.evaluation import evaluating
from fttool.training.rounding import rounding

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TRIED = 4
"""Tokens of the answers that are compared: the first comes of the prompt, the others of what is cached of it too."""

Prompt = Sequence[int]


@dataclass(kw_only=True)
class Answering:
    """A model that is asked."""

    model: Any
    tokenizer: PreTrainedTokenizerBase
    at_once: int
    """The most prompts that are answered together."""
    positions: int | None = None
    """Tokens that the model has positions for, prompt and answer together; None where their number has no end."""
    alone: str | None = None
    """Why each prompt is answered by itself; empty where padding changes nothing, None before that was tried."""
    tokens: int = 0
    """Tokens of all answers so far."""

    def room(self, prompt: Prompt, longest: int) -> int:
        """Tokens that the answer may have, of at most `longest`: beyond its positions a model talks nonsense."""
        return longest if self.positions is None else max(0, min(longest, self.positions - len(prompt)))

    def ask(self, prompts: Sequence[Prompt], longest: int, temperature: float = 0.0) -> list[str]:
        """An answer to each prompt in tokens, of at most `longest` tokens; temperature 0 is greedy.

        Empty where the model has no positions left for one.
        """
        answers = [""] * len(prompts)
        with evaluating(self.model):
            for group, room in self._together(prompts, longest):
                answered = self._generate([prompts[index] for index in group], room, temperature)
                for index, ids in zip(group, answered, strict=True):
                    self.tokens += len(ids)
                    answers[index] = str(self.tokenizer.decode(ids, skip_special_tokens=True)).strip()
        return answers

    def _together(self, prompts: Sequence[Prompt], longest: int) -> Iterator[tuple[list[int], int]]:
        """Indices of prompts that are answered together, those of like length, and how long their answers may be."""
        by_length = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
        roomy = [index for index in by_length if self.room(prompts[index], longest) == longest]
        if self.alone is None and len(roomy) > 1 and self.at_once > 1:
            self.alone = self._difference(prompts[roomy[-1]], prompts[roomy[0]])
        size = 1 if self.alone else self.at_once
        for start in range(0, len(roomy), size):
            yield roomy[start : start + size], longest
        for index in by_length:
            if 0 < (room := self.room(prompts[index], longest)) < longest:
                yield [index], room

    def _generate(self, prompts: Sequence[Prompt], longest: int, temperature: float) -> list[list[int]]:
        """The tokens of the answers, the one that ends an answer included."""
        ids_BT, mask_BT = self._padded(prompts)
        settings = self._settings(longest, temperature)
        output_BT: Any = self.model.generate(ids_BT, attention_mask=mask_BT, generation_config=settings)
        return [self._ended(row) for row in output_BT[:, ids_BT.shape[1] :].tolist()]

    def _ended(self, ids: list[int]) -> list[int]:
        """Without what stands after the end: padding to the longest answer."""
        end = next((place for place, token in enumerate(ids) if token in self._ends), len(ids))
        return ids[: end + 1]

    @property
    def _ends(self) -> list[int]:
        own = self.model.generation_config
        ends: Any = own.eos_token_id if own is not None else self.tokenizer.eos_token_id
        return [] if ends is None else ends if isinstance(ends, list) else [ends]

    @property
    def _pad_id(self) -> int:
        """Of padding, which nothing attends to: any token will do."""
        pad = self.tokenizer.pad_token_id
        return next(token for token in (pad, self.tokenizer.eos_token_id, 0) if isinstance(token, int))

    def _settings(self, longest: int, temperature: float = 0.0, **more: Any) -> Any:
        from transformers import GenerationConfig

        return GenerationConfig(
            max_new_tokens=longest,
            do_sample=temperature > 0,
            temperature=temperature if temperature > 0 else None,
            eos_token_id=self._ends or None,
            pad_token_id=self._pad_id,
            **more,
        )

    def _padded(self, prompts: Sequence[Prompt]) -> tuple[Tensor, Tensor]:
        """Prompts padded on the left, and where they are not padding, both (B, T)."""
        width = max(map(len, prompts))
        ids_BT = torch.tensor([[self._pad_id] * (width - len(prompt)) + list(prompt) for prompt in prompts])
        mask_BT = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        return ids_BT.to(self.model.device), mask_BT.to(self.model.device)

    def _difference(self, short: Prompt, long: Prompt) -> str:
        """What becomes of a prompt's answer beside a longer one, in words; empty where it stays what it is."""
        try:
            alone, beside = self._logits([short]), self._logits([short, long])
        except Exception as fault:  # whatever a model raises that takes no padding on the left
            if ran_out_of_memory(fault):
                raise
            return gist(fault)
        formats = {p.dtype for p in self.model.parameters() if p.is_floating_point()}
        for ours_V, theirs_V in zip(alone, beside, strict=False):
            difference = float(torch.where(ours_V == theirs_V, 0.0, (ours_V - theirs_V).abs()).max())
            allowed = rounding(formats) * float(ours_V.max().abs())
            if not difference <= allowed:
                return (
                    f"padding changes its logits by {difference:.2g}, while rounding accounts for at most {allowed:.2g}"
                )
            if ours_V.argmax() != theirs_V.argmax():  # a tie: the answers part here, and say nothing more
                break
        return ""

    def _logits(self, prompts: Sequence[Prompt]) -> list[Tensor]:
        """Of the first prompt's answer, token by token, each (V,) in float32."""
        ids_BT, mask_BT = self._padded(prompts)
        settings = self._settings(TRIED, output_logits=True, return_dict_in_generate=True)
        generated: Any = self.model.generate(ids_BT, attention_mask=mask_BT, generation_config=settings)
        return [logits_BV[0].float() for logits_BV in generated.logits]
