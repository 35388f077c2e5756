"""`label`: the classes of a row are learned, and none of its tokens."""

from __future__ import annotations

from typing import ClassVar, Literal

from fttool.api import Encoded, Example, Level, Masking, MaskingContext, RowEncoder
from fttool_plugins.masking.texts import encode_texts


class Label(Masking):
    """Learn the classes of a row; its text is read whole, with the special tokens that the tokenizer puts around it.

    A text that is too long loses its end, but not the special token behind it; of two texts the longer one is cut. Two
    are joined by the tokenizer's separator, or by a line break where it has none.
    """

    name: Literal["label"] = "label"
    level: ClassVar[Level | None] = "row"

    def build(self, ctx: MaskingContext) -> RowEncoder:
        """Yield the encoder; it raises `ValueError` for a row without classes, or without a token left of its text."""

        def encode(example: Example) -> Encoded:
            if example.labels is None:
                raise ValueError("the row has no classes")
            return encode_texts(ctx.tokenizer, example.prompt, example.second, ctx.max_length, example.labels)

        return encode
