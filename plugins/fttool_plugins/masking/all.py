"""`all`: every token is learned, as in pre-training."""

from __future__ import annotations

from typing import Literal

from typing_extensions import override

from fttool.api import Encoded, Example, MaskingContext, RowEncoder
from fttool_plugins.masking.of_turns import OfText


class All(OfText):
    """Learn every token but the first, which nothing predicts: continued pre-training.

    label_t = token_t for t ≥ 1. Of a conversation that is all the chat template writes. A row of plain text
    gets BOS in front where the tokenizer adds one, and EOS after it, so that its end is learned. A conversation with a
    turn that is marked as not learned is refused.
    """

    name: Literal["all"] = "all"

    @override
    def build(self, ctx: MaskingContext) -> RowEncoder:
        """Yield the encoder; it raises `ValueError` for an empty row and where the chat template refuses."""
        from fttool_plugins.masking.control import Control
        from fttool_plugins.masking.plain import PlainText
        from fttool_plugins.masking.turns import IGNORED, Conversations, render

        tokenizer, plain = ctx.tokenizer, PlainText(ctx.tokenizer, self.control_tokens)
        control = Control(tokenizer, self.control_tokens)
        conversations = Conversations(tokenizer, control=self.control_tokens)

        def encode(example: Example) -> Encoded:
            if not example.messages:
                return plain.encode(example.prompt, example.completion, learn_prompt=True)
            if example.unlearned:
                turn = min(example.unlearned) + 1
                raise ValueError(
                    f"turn {turn} is marked as not learned, and masking 'all' learns every token; choose 'assistant'"
                )
            controlled = control.check_conversation(example.messages, example.template)
            if controlled and control.as_text:
                return conversations.encode_all(example.messages, example.template)
            text = render(tokenizer, example.messages, example.template)
            encoding = tokenizer(text, add_special_tokens=False, truncation=False, verbose=False)
            ids = list(encoding["input_ids"])
            return Encoded(ids, [IGNORED, *ids[1:]], remarks=control.remarks(controlled))

        return encode
