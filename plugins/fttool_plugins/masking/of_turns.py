"""The options of strategies that learn an assistant's turns, one by one."""

from __future__ import annotations

from collections.abc import Sequence

from fttool.api import Example, Masking
from fttool_plugins.masking.history import History, as_asked


class OfTurns(Masking):
    """What a conversation teaches, turn by turn; which turns those are, the strategy says."""

    history: History = "as-rendered"
    """In which history a turn is learned: `as-rendered`, all of a conversation in one render, or `as-asked`, each
    learned turn as a row of its own, behind the render of the turns before it, as inference asks for it. Use `as-asked`
    with templates that write earlier turns otherwise than the last (without their thoughts, with another token at the
    end); a conversation of n learned turns costs n rows then, whose histories are read again and again."""

    def first(self, example: Example) -> int:
        """Index of the first message whose turn may be learned."""
        return 0

    def split(self, example: Example) -> Sequence[Example]:
        """A row a learned turn where the history is as asked, else the row as it is."""
        return as_asked(example, self.first(example)) if self.history == "as-asked" else (example,)

    def begin(self, example: Example) -> int:
        """Where learning begins in a row that `split` has given."""
        return example.completion_from if self.history == "as-asked" else self.first(example)
