"""Why a chat template refuses a conversation: what it would take instead, found by trying.

A template that reads `message.content` of a message without one raises "'dict object' has no attribute 'content'", and
one that wants content in parts says as little. So what such templates take is tried, and said.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fttool.api import Message
from fttool_plugins.masking.writing import Written

PARTS = '; it wants content as a list of parts: "content": [{"type": "text", "text": "…"}]'


def remedy(messages: Sequence[Message], render: Callable[[Sequence[Message]], str]) -> str:
    """What a template would take instead of these messages, as a clause for a sentence; empty where nothing is known.

    `render` writes messages with the template, and raises what that raises.
    """
    bare = [place for place, message in enumerate(messages) if message.get("content") is None]
    filled: list[Message] = [{**message, "content": message.get("content") or ""} for message in messages]
    if bare:
        text = _tried(render, filled)
        calls = _called(messages)
        if text is not None and calls and not any(name in text for name in calls):
            return "; it cannot write tool calls: choose a [model] chat_template that can"
        if text is not None:
            return f'; it cannot write message {bare[0] + 1}, which has no content: give it an empty one, "content": ""'
    parts = _in_parts(filled)
    return PARTS if parts != filled and _tried(render, parts) is not None else ""


def wants_parts(messages: Sequence[Message], index: int, write: Callable[[Sequence[Message]], Written | None]) -> str:
    """The same for a template that leaves out the text of message `index`: whether it writes the text in parts."""
    content = messages[index].get("content")
    written = write(_in_parts(messages)) if isinstance(content, str) and content.strip() else None
    said = "".join(written.of(index, "content")) if written else ""
    return PARTS if said and "".join(said.split()) == "".join(str(content).split()) else ""


def _in_parts(messages: Sequence[Message]) -> list[Message]:
    return [
        {**message, "content": [{"type": "text", "text": message["content"]}]}
        if isinstance(message.get("content"), str)
        else message
        for message in messages
    ]


def _called(messages: Sequence[Message]) -> list[str]:
    calls: list[Any] = [call for message in messages for call in message.get("tool_calls") or ()]
    return [str(call.get("function", call).get("name")) for call in calls if isinstance(call, dict)]


def _tried(render: Callable[[Sequence[Message]], str], messages: Sequence[Message]) -> str | None:
    try:
        return render(messages)
    except Exception:  # a template is foreign code: it may raise anything
        return None
