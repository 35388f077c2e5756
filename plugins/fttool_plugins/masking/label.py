"""`label`: the classes of a row, or its number, are learned, and none of its tokens."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

from typing_extensions import override

from fttool.api import Encoded, Example, Levels, MaskingContext, RowEncoder
from fttool_plugins.masking.of_turns import OfText


class Label(OfText):
    """Learn the classes of a row, or its number; its text is read whole, with the tokenizer's special tokens around it.

    A text that is too long loses its end, but not the special token after it; of two texts the longer one is cut. Two
    are joined by the tokenizer's separator, or by a line break where it has none.
    """

    name: Literal["label"] = "label"
    level: ClassVar[Levels] = ("row", "number")

    @override
    def build(self, ctx: MaskingContext) -> RowEncoder:
        """Yield the encoder; it raises `ValueError` for a row without classes, without a token left of its text, and
        for control tokens in a text where they are refused.
        """
        from fttool_plugins.masking.control import Control
        from fttool_plugins.masking.texts import encode_texts

        control = Control(ctx.tokenizer, self.control_tokens)

        def encode(example: Example) -> Encoded:
            if example.labels is None:
                raise ValueError("the row has no classes")
            texts = (example.prompt, example.second)
            controlled = control.check(zip(("the text", "the second text"), texts, strict=True))
            as_text = controlled and control.as_text
            row = encode_texts(ctx.tokenizer, *texts, ctx.max_length, example.labels, as_text=as_text)
            return replace(row, remarks=control.remarks(controlled), literal=as_text)

        return encode
