"""`assistant`: all turns of the assistant are learned."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from typing_extensions import override

from fttool.api import Problem, Recipe
from fttool_plugins.masking.of_turns import OfTurns


class Assistant(OfTurns):
    """Learn what the assistant says, in every turn of a conversation.

    label_t = token_t where token t belongs to an assistant's turn, −100 elsewhere. The turn's header
    (`<|im_start|>assistant`) is not learned; its thoughts and tool calls are, as far as the chat template
    writes them, and so is the token that ends it. A turn that the row marks as not learned is only read.
    Works with any chat template; no `{% generation %}` is needed.

    Of a row of plain text the completion and the EOS after it are learned.
    """

    name: Literal["assistant"] = "assistant"
    also: tuple[Literal["system", "developer", "user", "tool"], ...] = ()
    """Other roles whose words are learned too: the text of their turns, without the header and the end that the
    template writes around it. Inference asks for no such turn; it is for a model that is to know such texts, or to
    play the user in a test. A turn that the row marks as not learned stays so."""

    @override
    def check(self, recipe: Recipe) -> Iterable[Problem]:
        if self.also and self.history == "as-asked":
            message = "also learns texts of the histories, which as-asked repeats"
            yield Problem(message, hint='leave out also, or set history = "as-rendered"', key=("masking", "also"))

    @override
    def roles(self) -> Sequence[str]:
        return self.also
