"""`completion`: what answers the prompt is learned, and nothing that stands in it."""

from __future__ import annotations

from typing import Literal

from typing_extensions import override

from fttool.api import Example
from fttool_plugins.masking.of_turns import OfTurns


class Completion(OfTurns):
    """Learn the completion of a row that is split into prompt and completion.

    In a conversation these are the assistant's turns from the first message of the completion on; its
    earlier turns are part of the prompt, and so are those that the row marks as not learned. label_t = token_t
    there, up to and including the token that ends each turn, −100 elsewhere. Where the format makes no such
    split, every turn of the assistant is learned, as with `assistant`.

    Of a row of plain text the completion and the EOS after it are learned.
    """

    name: Literal["completion"] = "completion"

    @override
    def first(self, example: Example) -> int:
        return example.completion_from
