"""`chosen-turns`: the assistant's turns of given numbers are learned."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field
from typing_extensions import override

from fttool.api import Example
from fttool_plugins.masking.of_turns import OfTurns


def _from_an_end(number: int) -> int:
    if not number:
        raise ValueError("turns are counted from 1, or from -1 at the end")
    return number


Number = Annotated[int, AfterValidator(_from_an_end), Field(json_schema_extra={"not": {"const": 0}})]


class ChosenTurns(OfTurns):
    """Learn the turns of the assistant that have these numbers; all others are read.

    label_t = token_t where token t belongs to one of them, as with `assistant`, −100 elsewhere. All turns of the
    assistant are counted: a call of a tool and the answer after it are two, and so is a turn that the row marks as not
    learned, which stays so. A row that has none of these turns has nothing to learn, and is dropped and counted.

    `turns = [1]` teaches how a conversation begins, `[-1]` is `last-assistant`, `[1, -1]` learns both ends of it.

    Of a row of plain text the completion and the EOS after it are learned.
    """

    name: Literal["chosen-turns"] = "chosen-turns"
    turns: Annotated[tuple[Number, ...], Field(min_length=1)]
    """Numbers of the assistant's turns: from 1 at the beginning, from −1 at the end."""

    @override
    def chosen(self, example: Example) -> Example:
        if isinstance(example, _Counted):
            return example
        answers = [index for index, message in enumerate(example.messages) if message.get("role") == "assistant"]
        learned = {place for number in self.turns if (place := _place(number, len(answers))) is not None}
        left_out = {index for place, index in enumerate(answers) if place not in learned}
        values: dict[str, Any] = {one.name: getattr(example, one.name) for one in fields(Example)}
        values["unlearned"] = example.unlearned | left_out
        return _Counted(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counted(Example):
    """A row whose turns have been counted: a part of it has others of these numbers."""


def _place(number: int, count: int) -> int | None:
    """The index of a turn among `count`; None where there is none of this number."""
    place = number - 1 if number > 0 else count + number
    return place if 0 <= place < count else None
