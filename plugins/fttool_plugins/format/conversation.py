"""What a conversation must be to be trained on, whatever format it comes in.

The checks refuse what trains without a word and teaches the wrong thing: roles that no chat template knows, turns
without text, two turns of one speaker, nothing to learn at the end.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from fttool.api import MARKS, Message, marked_learned
from fttool_plugins.format.tool_calls import read_calls, read_tools, read_variables, without_nulls
from fttool_plugins.masking.thoughts import in_two_places

ROLES = ("system", "developer", "user", "assistant", "tool")
"""The roles that chat templates know."""

_FOREIGN_ROLES = {
    "human": "user",
    "gpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "chatbot": "assistant",
    "ai": "assistant",
    "function": "tool",
}
"""What other layouts call them."""


class Turns(NamedTuple):
    """The turns of a conversation."""

    messages: tuple[Message, ...]
    """As the chat template gets them: a role, content as text or None, and what else the row has, without nulls."""
    unlearned: frozenset[int]
    """Indices of those that are marked as not learned."""

    def __add__(self, others: Any) -> Turns:
        """These turns, and the others after them."""
        behind = frozenset(index + len(self.messages) for index in others.unlearned)
        return Turns(self.messages + others.messages, self.unlearned | behind)


def read_turns(value: Any, column: str) -> Turns:
    """The turns in a column, each with a known role and its content as a string; their other keys are kept.

    Marks (`weight`, `train` …) are obeyed and do not reach the chat template, and neither do nulls.

    Raises:
        ValueError: where the value is not a list of turns, or a turn has a wrong role, content or mark.
    """
    turns = [_read_turn(turn, where, column) for turn, where in each_turn(value, column)]
    unlearned = frozenset(index for index, (_, learned) in enumerate(turns) if not learned)
    return Turns(tuple(message for message, _ in turns), unlearned)


def each_turn(value: Any, column: str) -> Iterator[tuple[Any, str]]:
    """What stands in a column of turns, and what to call it in a sentence.

    Raises:
        ValueError: where the value is not a list with something in it.
    """
    if isinstance(value, str):
        raise ValueError(f"'{column}' is a string, not a list of turns; if it is JSON, unpack it into the row")
    if not isinstance(value, Sequence):
        raise ValueError(f"'{column}' must be a list of turns, this is {type(value).__name__}")
    if not value:
        raise ValueError(f"'{column}' has no turns")
    for number, turn in enumerate(value, 1):
        yield turn, f"turn {number} of '{column}'"


def check_order(messages: Sequence[Message]) -> None:
    """Check that the speakers take turns and that the assistant has the last word.

    Raises:
        ValueError: where they do not.
    """
    roles = [message["role"] for message in messages]
    if "assistant" not in roles:
        raise ValueError("the conversation has no assistant turn, so there is nothing to learn")
    for number, (role, following) in enumerate(itertools.pairwise(roles), 1):
        if role == following and role in ("user", "assistant"):
            raise ValueError(f"turns {number} and {number + 1} are both of the {role}; join them, or drop one")
    if roles[-1] != "assistant":
        raise ValueError(f"the conversation ends in the {roles[-1]}; it must end in the assistant: drop the turn")


def read_template(row: Mapping[str, Any]) -> dict[str, Any]:
    """What the row has for the chat template beside its turns: `tools`, and all of `chat_template_kwargs`.

    Both may be JSON text, as datasets of fixed types must write them. Nulls of a table are dropped.

    Raises:
        ValueError: where they have another shape.
    """
    more = read_variables(row.get("chat_template_kwargs"), "chat_template_kwargs")
    tools, others = read_tools(row.get("tools")), read_tools(more.pop("tools", None))
    if tools and others:
        raise ValueError("'tools' is both in the row and in its 'chat_template_kwargs'; drop one")
    return {"tools": tools or others, **more} if tools or others else more


def _read_turn(turn: Any, where: str, column: str) -> tuple[Message, bool]:
    """The turn as the chat template gets it, and whether it may be learned."""
    if not isinstance(turn, Mapping):
        raise ValueError(f'{where} must be {{"role": …, "content": …}}, this is {type(turn).__name__}')
    if "role" not in turn:
        hint = f'; try format = {{name = "sharegpt", column = "{column}"}}' if "from" in turn else ""
        raise ValueError(f"{where} has no 'role' (its keys: {', '.join(map(repr, turn))}){hint}")
    role = turn["role"]
    if role not in ROLES:
        raise ValueError(f"{where} has the role {role!r}: {_role_advice(role)}")
    return as_message(turn, role, f"{where} ({role})")


def as_message(turn: Mapping[str, Any], role: str, where: str) -> tuple[Message, bool]:
    """A turn of a known role as the chat template gets it, and whether it may be learned.

    `content` is text, parts of text, or null beside `tool_calls`; other keys are kept, but for marks and nulls.

    Raises:
        ValueError: where its content, calls or marks are wrong.
    """
    learned = marked_learned(turn, where)
    rest = {key: without_nulls(value) for key, value in turn.items() if key not in MARKS and value is not None}
    if rest.get("tool_calls"):
        rest["tool_calls"] = read_calls(turn["tool_calls"], where)
    message = {**rest, "role": role, "content": _content(turn, role, where)}
    if role == "assistant" and (places := in_two_places(message)):
        raise ValueError(f"{where} has a thought in its content ({places[0]}) and in '{places[1]}': keep one")
    return message, learned


def _role_advice(role: Any) -> str:
    spelled = str(role).strip().lower()
    if spelled in _FOREIGN_ROLES:
        return f"rename it to '{_FOREIGN_ROLES[spelled]}'"
    near = [spelled] if spelled in ROLES else difflib.get_close_matches(spelled, ROLES, n=1)
    return f"did you mean '{near[0]}'?" if near else f"known are {', '.join(ROLES)}"


def _content(turn: Mapping[str, Any], role: str, where: str) -> str | None:
    """The turn's text; None only where the assistant calls tools instead of speaking."""
    content = turn.get("content")
    if isinstance(content, list | tuple):
        content = "".join(_part(part, f"part {number} of {where}") for number, part in enumerate(content, 1))
    if content is not None and not isinstance(content, str):
        raise ValueError(f"{where} must be text or a list of text parts, this is {type(content).__name__}")
    if (content is None or not content.strip()) and not (role == "assistant" and turn.get("tool_calls")):
        missing = "has no 'content'" if "content" not in turn else "is null" if content is None else "is empty"
        raise ValueError(f"{where} {missing}; only an assistant turn with tool_calls may go without")
    return content


def _part(part: Any, where: str) -> str:
    kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
    if kind is None and isinstance(part, Mapping) and "text" in part:
        raise ValueError(f"{where} has no 'type'; if it is a file for Bedrock: format = \"bedrock\"")
    if kind != "text":
        raise ValueError(f"{where} is of type {kind!r}; only text can be trained on")
    if not isinstance(part.get("text"), str):
        raise ValueError(f"{where} has no 'text'")
    if not marked_learned(part, where):
        raise ValueError(f"{where} is marked as not learned: a turn is learned in full, or not at all")
    return part["text"]
