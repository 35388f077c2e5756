"""What an assistant's turn has to say, and whether the chat template says it.

An empty answer would teach the model to stop at once, and so would one that the template leaves out: templates drop
what they do not know (tool calls, mostly) without a word.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from fttool.api import ChatTemplateError, Message

if TYPE_CHECKING:
    from fttool_plugins.masking.writing import Written

THOUGHT = re.compile(r"[<\[][^<>\[\]\s]*(?:think|thought|reason|channel)[^<>\[\]\s]*[>\]]", re.IGNORECASE)
"""A tag around a thought: `<think>`, `[/THINK]`, `<|START_THINKING|>`, `<|channel>` …"""


def check_not_empty(message: Message, number: int) -> None:
    """Raise `ValueError` where an assistant's turn has neither text nor tool calls; a thought alone is not an answer.

    `number` counts messages from 1, for the sentence.
    """
    if not message.get("tool_calls") and not any(text.strip() for text in _texts(message)):
        what = "null" if message.get("content") is None else "empty"
        raise ValueError(f"message {number}, an assistant turn, has {what} content and no tool calls")


def check_not_left_out(message: Message, number: int, written: Written) -> None:
    """Raise `ChatTemplateError` where the template leaves out a message's text or a tool call, or writes it twice.

    A thought may be dropped (templates do so in earlier turns), and so may what is said beside a tool call.
    `number` counts messages from 1.
    """
    calls = written.of(number - 1, "tool_calls", "function_call")
    for name in _called(message):
        if not any(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", call) for call in calls):
            raise ChatTemplateError(f"the chat template leaves out the call of tool {name!r} in message {number}")
    said = "".join(_texts(message))
    written_ink, said_ink = _ink("".join(written.of(number - 1, "content"))), _ink(said)
    answer = _ink(THOUGHT.split(said)[-1])
    if THOUGHT.sub("", written_ink) == THOUGHT.sub("", said_ink):
        return
    if answer and said_ink.endswith(written_ink) and written_ink.endswith(answer):
        return
    if message.get("tool_calls") and not written_ink:
        return
    what = f"the text of message {number}, {said.strip()[:40]!r},"
    if not written_ink:
        raise ChatTemplateError(f"the chat template leaves out {what} which then has no place of its own")
    if written_ink.count(said_ink) > 1 or (answer and written_ink.count(answer) > said_ink.count(answer)):
        raise ChatTemplateError(f"the chat template writes {what} more than once, so its place is ambiguous")
    raise ChatTemplateError(f"the chat template rewrites {what} or leaves out a part: it writes {written_ink[:40]!r}")


def _ink(text: str) -> str:
    """The text without its white space, which templates strip and join as they like."""
    return "".join(text.split())


def _texts(message: Message) -> list[str]:
    """The texts of a message's content, which is a string or a list of parts."""
    content = message.get("content")
    parts = [content] if isinstance(content, str) else content or ()
    texts = (part.get("text") if isinstance(part, Mapping) else part for part in parts)
    return [text for text in texts if isinstance(text, str)]


def _called(message: Message) -> list[str]:
    """The names of the tools that a message calls, whether it wraps them in `function` or not."""
    calls = [call for call in message.get("tool_calls") or () if isinstance(call, Mapping)]
    named = [call["function"] if isinstance(call.get("function"), Mapping) else call for call in calls]
    return [str(call["name"]) for call in named if "name" in call]
