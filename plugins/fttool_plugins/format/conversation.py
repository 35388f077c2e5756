"""What a conversation must be to be trained on, whatever format it comes in.

The checks refuse what trains without a word and teaches the wrong thing: roles that no chat template knows, turns
without text, two turns of one speaker, nothing to learn at the end.
"""

from __future__ import annotations

import difflib
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from fttool.api import Message

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


def read_turns(value: Any, column: str) -> tuple[Message, ...]:
    """The turns in a column, each with a known role and its content as a string; their other keys are kept.

    Raises:
        ValueError: where the value is no list of turns, or a turn has a wrong role or content.
    """
    if isinstance(value, str):
        raise ValueError(f"'{column}' is a string, not a list of turns; if it is JSON, unpack it into the row")
    if not isinstance(value, Sequence):
        raise ValueError(f"'{column}' must be a list of turns, this is {type(value).__name__}")
    if not value:
        raise ValueError(f"'{column}' has no turns")
    return tuple(_read_turn(turn, f"turn {number} of '{column}'") for number, turn in enumerate(value, 1))


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

    `tools` may be a list or JSON text of one, as datasets of fixed types must write it.

    Raises:
        ValueError: where they have another shape.
    """
    more = row.get("chat_template_kwargs") or {}
    if not isinstance(more, Mapping):
        raise ValueError(f"'chat_template_kwargs' must be an object, this is {type(more).__name__}")
    tools = row.get("tools")
    if isinstance(tools, str):
        try:
            tools = json.loads(tools)
        except json.JSONDecodeError as error:
            raise ValueError(f"'tools' is text, and not JSON: {error}") from None
    if not tools:
        return dict(more)
    if not isinstance(tools, list):
        raise ValueError(f"'tools' must be a list, this is {type(tools).__name__}")
    if "tools" in more:
        raise ValueError("'tools' stands in the row and in its 'chat_template_kwargs'; drop one")
    return {"tools": tools, **more}


def _read_turn(turn: Any, where: str) -> Message:
    if not isinstance(turn, Mapping):
        raise ValueError(f'{where} must be {{"role": …, "content": …}}, this is {type(turn).__name__}')
    if "role" not in turn:
        hint = "; rename 'from' to 'role' and 'value' to 'content'" if "from" in turn else ""
        raise ValueError(f"{where} has no 'role' (its keys: {', '.join(map(repr, turn))}){hint}")
    role = turn["role"]
    if role not in ROLES:
        raise ValueError(f"{where} has the role {role!r}: {_role_advice(role)}")
    return {**turn, "content": _content(turn, f"{where} ({role})")}


def _role_advice(role: Any) -> str:
    spelled = str(role).strip().lower()
    if spelled in _FOREIGN_ROLES:
        return f"rename it to '{_FOREIGN_ROLES[spelled]}'"
    near = [spelled] if spelled in ROLES else difflib.get_close_matches(spelled, ROLES, n=1)
    return f"did you mean '{near[0]}'?" if near else f"known are {', '.join(ROLES)}"


def _content(turn: Mapping[str, Any], where: str) -> str | None:
    """The turn's text; None only where the assistant calls tools instead of speaking."""
    content = turn.get("content")
    if isinstance(content, list | tuple):
        content = "".join(_part(part, f"part {number} of {where}") for number, part in enumerate(content, 1))
    if content is not None and not isinstance(content, str):
        raise ValueError(f"{where} must be text or a list of text parts, this is {type(content).__name__}")
    if (content is None or not content.strip()) and not (turn["role"] == "assistant" and turn.get("tool_calls")):
        missing = "has no 'content'" if "content" not in turn else "is null" if content is None else "is empty"
        raise ValueError(f"{where} {missing}; only an assistant turn with tool_calls may go without")
    return content


def _part(part: Any, where: str) -> str:
    kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
    if kind != "text":
        raise ValueError(f"{where} is of type {kind!r}; only text can be trained on")
    if not isinstance(part.get("text"), str):
        raise ValueError(f"{where} has no 'text'")
    return part["text"]
