"""`last-assistant`: the last turns of the assistant are learned."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import override

from fttool.api import Example
from fttool_plugins.masking.of_turns import OfTurns


class LastAssistant(OfTurns):
    """Learn the last turn of the assistant; all before it is read.

    label_t = token_t where token t belongs to that turn, as with `assistant`, −100 elsewhere. Of turns that the row
    marks as not learned another one is never taken in their place: the last of the others is. Use it where earlier
    answers are worse than the last one, or where templates write them otherwise.

    Of a row of plain text the completion and the EOS after it are learned.
    """

    name: Literal["last-assistant"] = "last-assistant"
    turns: Annotated[int, Field(ge=1)] = 1
    """How many of the assistant's last turns are learned; a conversation with fewer is learned in all of them."""

    @override
    def chosen(self, example: Example) -> Example:
        answers = [
            index
            for index, message in enumerate(example.messages)
            if message.get("role") == "assistant" and index not in example.unlearned
        ]
        return replace(example, unlearned=example.unlearned | frozenset(answers[: -self.turns]))
