"""A prompt and its answer in texts of their own: turns of a conversation, or plain text joined as it stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fttool.api import Example, Message
from fttool_plugins.format.conversation import Turns, check_order


class Writing(NamedTuple):
    """How a prompt and its answer are written."""

    turns: bool
    """As turns, which a chat template writes; else as plain text, joined as it stands."""
    system: str = ""
    """The system turn of a conversation that has none of its own."""


def system_text(row: Mapping[str, Any], column: str) -> str:
    """The system turn that a row has in a column of its own, "" for none; raises `ValueError` where it is not text."""
    value = row.get(column)
    if value is None or (isinstance(value, str) and not value.strip()):
        return ""
    if not isinstance(value, str):
        raise ValueError(f"'{column}' must be text, this is {type(value).__name__}")
    return value


def of_texts(origin: str, prompt: str, answer: str, names: Sequence[str], writing: Writing) -> Example:
    """The example of a prompt and an answer, which stand in the columns `names`.

    Raises:
        ValueError: where one is empty that must not be: in plain text a prompt may.
    """
    asked, said = names
    if not answer.strip():
        raise ValueError(f"'{said}' is empty, so there is nothing to learn")
    if not writing.turns:
        if writing.system:
            raise ValueError(f"there is a system text for this row, and plain text has no turns: {_CHAT}")
        return Example(origin=origin, prompt=prompt, completion=answer)
    if not prompt.strip():
        raise ValueError(f"'{asked}' is empty, and a turn needs text; to learn the row as plain text, set plain = true")
    turns: list[Message] = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    return of_turns(origin, Turns(tuple(turns), frozenset()), 1, {}, writing)


def of_turns(origin: str, turns: Turns, completion_from: int, template: Mapping[str, Any], writing: Writing) -> Example:
    """The example of a conversation, with the system turn of `writing` in front where it has none.

    Raises:
        ValueError: where speakers do not take turns, or the assistant has not the last word.
    """
    if writing.system and turns.messages and turns.messages[0]["role"] not in ("system", "developer"):
        turns = Turns(({"role": "system", "content": writing.system},), frozenset()) + turns
        completion_from += 1
    check_order(turns.messages)
    return Example(
        origin=origin,
        messages=turns.messages,
        completion_from=completion_from,
        template=template,
        unlearned=turns.unlearned,
    )


_CHAT = "name a model.chat_template and leave out plain = true, or leave out the system text"
