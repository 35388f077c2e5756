"""The options that masking strategies share: control tokens in texts, and what is learned of an assistant's turns.

What makes tokens of rows is imported where an encoder is built, here and in each strategy: it is most of this room, and
a recipe is checked without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from typing_extensions import override

from fttool.api import Encoded, Example, Masking, MaskingContext, RowEncoder

ControlTokens: TypeAlias = Literal["refuse", "text", "keep"]
History: TypeAlias = Literal["as-rendered", "as-asked"]
Thoughts: TypeAlias = Literal["learn", "skip", "skip-empty"]


class OfText(Masking):
    """What is read as text, of tokens that are learned or of classes."""

    control_tokens: ControlTokens = "refuse"
    """What becomes of rows whose texts hold a control token of the tokenizer (`<|im_end|>` in a question, `</s>` in an
    answer): they are refused, encoded as the `text` that they are, or kept as the tokens that they read like (`keep`:
    for plain text that was written with a template already). BOS in front of plain text and EOS after it are meant,
    where tokens are learned. A classifier is asked in the same way: what reads like a control token is text to it, but
    under `keep`."""

    @property
    @override
    def keeps_control_tokens(self) -> bool:
        return self.control_tokens == "keep"


class OfTurns(OfText):
    """What a conversation teaches, turn by turn; which turns those are, the strategy says."""

    history: History = "as-rendered"
    """In which history a turn is learned: `as-rendered`, all of a conversation in one render, or `as-asked`, each
    learned turn as a row of its own, after the render of the turns before it, as inference asks for it. Use `as-asked`
    with templates that write earlier turns otherwise than the last (without their thoughts, with another token at the
    end); a conversation of n learned turns costs n rows then, whose histories are read again and again."""

    thoughts: Thoughts = "learn"
    """What is learned of the thoughts in front of answers: all that the template writes of them, nothing of them
    (`skip`: they are read, with their tags), or only those that are not empty (`skip-empty`): many templates write
    `<think></think>` in front of an answer without a thought. Rows that teach an empty thought are counted."""

    def first(self, example: Example) -> int:
        """Index of the first message whose turn may be learned."""
        return 0

    def chosen(self, example: Example) -> Example:
        """The row with those turns marked as not learned that the strategy leaves out; twice is as once."""
        return example

    def roles(self) -> Sequence[str]:
        """Other roles than the assistant's whose words are learned."""
        return ()

    @override
    def split(self, example: Example) -> Sequence[Example]:
        """A row a learned turn where the history is as asked, else the row as it is."""
        from fttool_plugins.masking.history import as_asked

        example = self.chosen(example)
        return as_asked(example, self.first(example)) if self.history == "as-asked" else (example,)

    def begin(self, example: Example) -> int:
        """Where learning begins in a row that `split` has given."""
        return example.completion_from if self.history == "as-asked" else self.first(example)

    @override
    def build(self, ctx: MaskingContext) -> RowEncoder:
        """Yield the encoder; it raises `ValueError` where no right mask can be found."""
        from fttool_plugins.masking.plain import PlainText
        from fttool_plugins.masking.turns import Conversations

        conversations = Conversations(ctx.tokenizer, thoughts=self.thoughts, control=self.control_tokens)
        plain = PlainText(ctx.tokenizer, self.control_tokens)

        def encode(example: Example) -> Encoded:
            if example.messages:
                example = self.chosen(example)
                return conversations.encode(
                    example.messages,
                    example.template,
                    first=self.begin(example),
                    unlearned=example.unlearned,
                    also=self.roles(),
                )
            return plain.encode(example.prompt, example.completion)

        return encode
