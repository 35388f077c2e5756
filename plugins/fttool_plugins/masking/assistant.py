"""`assistant`: all turns of the assistant are learned."""

from __future__ import annotations

from typing import Literal

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
