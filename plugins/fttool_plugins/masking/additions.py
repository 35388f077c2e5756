"""What a chat template may write of its own into what is learned of a turn, and what it may not.

The model has to write all that is learned. That are the message's own texts and the marks of the format: special
tokens, the tags of thoughts, what makes a call of a name and its arguments, and white space. Words that the template
adds (`Step 2: `, `Answer: `, ` [over]`, a quotation mark around the answer) are neither: nobody takes them off what the
model writes, and in the next turn's history they would stand twice. Where a template begins calls otherwise than
answers (with the name of whom they are for), those words are a mark that the model chooses.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from fttool.api import ChatTemplateError, Message
from fttool_plugins.masking.answers import THOUGHT
from fttool_plugins.masking.prompts import REMEMBERED
from fttool_plugins.masking.spans import LEARNED, spans
from fttool_plugins.masking.thoughts import KEYS
from fttool_plugins.masking.writing import Run, Writer, Written

CALLS = ("tool_calls", "function_call")


def _call(arguments: Any) -> Message:
    function = {"name": "weather", "arguments": arguments}
    call = {"id": "call00001", "type": "function", "function": function}
    return {"role": "assistant", "content": "", "tool_calls": [call]}


class _Gap(NamedTuple):
    """What the template writes between two texts of a message, or at the edge of its turn."""

    text: str
    before: Run | None
    after: Run | None


class Additions:
    """Refuses turns in which a template writes words of its own; remembers how it begins calls."""

    def __init__(self, writer: Writer, special: re.Pattern[str]) -> None:
        self._writer = writer
        self._special = special
        self._chosen: dict[str, bool] = {}
        """Words in front of an answer → whether calls begin otherwise."""

    def check(
        self,
        written: Written,
        index: int,
        turn: tuple[int, int],
        messages: Sequence[Message],
        template: Mapping[str, Any],
    ) -> None:
        """Raise `ChatTemplateError` where something is learned of message `index` that is neither its own nor a mark.

        `turn` are the characters of the turn, from the first that the model writes to its end.
        """
        for gap in self._gaps(written, index, *turn):
            words = self._words(gap, messages[index])
            if words and not (gap.before is None and self._is_chosen(gap.text, messages[:index], template)):
                raise ChatTemplateError(
                    f"the chat template writes {words!r} into the answer of message {index + 1}, which is neither the "
                    "message's own nor a mark of the format: the model would learn to write it, and the next turn's "
                    "history would have it twice"
                )

    def _gaps(self, written: Written, index: int, start: int, end: int) -> Iterator[_Gap]:
        own = [
            run
            for run in written.runs
            if start <= run.start and run.end <= end and run.owner.message == index and run.owner.field in LEARNED
        ]
        for before, after in pairwise([None, *own, None]):
            text = written.text[before.end if before else start : after.start if after else end]
            if text.strip():
                yield _Gap(text, before, after)

    def _words(self, gap: _Gap, message: Message) -> str:
        """Of a gap what is not a mark of the format; empty where all of it is."""
        fields = [run.owner.field for run in (gap.before, gap.after) if run]
        if any(field in CALLS for field in fields):
            return ""
        text = THOUGHT.sub("", gap.text)
        parts = self._special.split(text)
        numbered = next((part.strip() for part in parts if any(letter.isdigit() for letter in part)), "")
        if any(field in KEYS for field in fields):  # words may lead to a thought, or from it to the answer
            return numbered
        if gap.before and gap.after and gap.before.owner == gap.after.owner:
            return "" if THOUGHT.search(str(message.get("content"))) else text.strip()
        # Words in front of a special token belong to it (`<|channel|>final<|message|>`), but for those at an answer.
        at_answer = (parts[0] if gap.before else "") + (parts[-1] if gap.after else "")
        return numbered or at_answer.strip()

    def _is_chosen(self, lead: str, head: Sequence[Message], template: Mapping[str, Any]) -> bool:
        """True where the template has other words in front of a call than in front of an answer."""
        if any(letter.isdigit() for letter in lead) or not lead.endswith("\n"):
            return False
        if lead not in self._chosen:
            if len(self._chosen) >= REMEMBERED:
                self._chosen.clear()
            tried = (self._writer.tried([*head, _call(arguments)], template) for arguments in ({}, "{}"))
            called = next((render for render in tried if render), None)
            places = spans(called, len(head)) if called else []
            self._chosen[lead] = called is not None and any(
                not called.text[: place.start].endswith(lead) for place in places[:1]
            )
        return self._chosen[lead]
