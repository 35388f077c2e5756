"""`all`: every token is learned, as in pre-training."""

from __future__ import annotations

from typing import Literal

from fttool.api import Encoded, Example, Masking, MaskingContext, RowEncoder
from fttool_plugins.masking.plain import PlainText
from fttool_plugins.masking.turns import IGNORED, render


class All(Masking):
    """Learn every token but the first, which nothing predicts: continued pre-training.

    label_t = token_t for t ≥ 1. Of a conversation that is all the chat template writes. A row of plain text
    gets BOS in front where the tokenizer adds one, and EOS behind it, so that its end is learned. A conversation with a
    turn that is marked as not learned is refused.
    """

    name: Literal["all"] = "all"

    def build(self, ctx: MaskingContext) -> RowEncoder:
        """Yield the encoder; it raises `ValueError` for an empty row and where the chat template refuses."""
        tokenizer, plain = ctx.tokenizer, PlainText(ctx.tokenizer)

        def encode(example: Example) -> Encoded:
            if not example.messages:
                return plain.encode(example.prompt, example.completion, learn_prompt=True)
            if example.unlearned:
                turn = min(example.unlearned) + 1
                raise ValueError(
                    f"turn {turn} is marked as not learned, and masking 'all' learns every token; choose 'assistant'"
                )
            text = render(tokenizer, example.messages, example.template)
            encoding = tokenizer(text, add_special_tokens=False, truncation=False, verbose=False)
            ids = list(encoding["input_ids"])
            return Encoded(ids, [IGNORED, *ids[1:]])

        return encode
