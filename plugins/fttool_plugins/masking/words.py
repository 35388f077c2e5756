"""`words`: the classes of a text's words are learned, and none of its tokens.

Which word a token is of, the tokenizer's offsets say: the word of its first character that is not blank. So a text is
read as a whole, as inference reads it, and not word by word.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from typing_extensions import override

from fttool.api import Encoded, Example, Levels, MaskingContext, RowEncoder
from fttool_plugins.masking.of_turns import OfText


class Words(OfText):
    """Learn the classes of a text's words, whichever tokens these become; the task says which tokens speak for a word.

    The text is read whole, with the special tokens that the tokenizer puts around it. One that is too long loses words
    at its end, but not the special token after it; lost words are counted.
    """

    name: Literal["words"] = "words"
    level: ClassVar[Levels] = "word"

    @override
    def build(self, ctx: MaskingContext) -> RowEncoder:
        """Yield the encoder; it raises `ValueError` for a row without words or classes, for a word of which the
        tokenizer makes no token, and for control tokens in the text where they are refused.
        """
        from fttool_plugins.masking.control import Control
        from fttool_plugins.masking.wordwise import encode_words

        control = Control(ctx.tokenizer, self.control_tokens)

        def encode(example: Example) -> Encoded:
            if example.labels is None or not example.words:
                raise ValueError("the row has no words with classes")
            controlled = control.check([("the text", example.prompt)])
            literal = controlled and control.as_text
            ids, words, cut_off = encode_words(ctx.tokenizer, example.prompt, example.words, ctx.max_length, literal)
            left = max(words) + 1
            for number in sorted(set(range(left)).difference(words)):
                start, end = example.words[number]
                word = example.prompt[start:end]
                raise ValueError(
                    f"the tokenizer makes no token of its own of word {number + 1}, {word!r}: leave it out"
                )
            return Encoded(
                ids,
                [-100] * len(ids),
                classes=example.labels[:left],
                words=words,
                cut=cut_off > 0,
                lost=({"tokens": cut_off} if cut_off else {})
                | ({"words": len(example.words) - left} if left < len(example.words) else {}),
                remarks=control.remarks(controlled),
                literal=literal,
            )

        return encode
