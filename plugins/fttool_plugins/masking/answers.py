"""What an assistant's turn has to say, and whether the chat template says it.

An empty answer would teach the model to stop at once, and so would one that the template leaves out: templates drop
what they do not know (tool calls, mostly) without a word.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from fttool.api import Message

THOUGHT = re.compile(r"[<\[][^<>\[\]\s]*(?:think|thought|reason|channel)[^<>\[\]\s]*[>\]]", re.IGNORECASE)
"""A tag around a thought: `<think>`, `[/THINK]`, `<|START_THINKING|>`, `<|channel>` …"""


def check_not_empty(message: Message, number: int) -> None:
    """Raise `ValueError` where an assistant's turn has neither text nor tool calls; a thought alone is no answer.

    `number` counts messages from 1, for the sentence.
    """
    if not message.get("tool_calls") and not any(text.strip() for text in _texts(message)):
        found = "null" if message.get("content") is None else "empty"
        raise ValueError(f"message {number}, an assistant turn, has {found} content and no tool calls")


def check_not_left_out(message: Message, number: int, written: str) -> None:
    """Raise `ValueError` where a message's text or a tool that it calls is not in what the template wrote of it.

    A thought may be dropped (templates do so in earlier turns), and so may what is said beside a tool call.
    """
    for name in _called(message):
        if not re.search(rf"(?<!\w){re.escape(name)}(?!\w)", written):
            raise ValueError(f"the chat template leaves out the call of tool {name!r} in message {number}")
    for text in () if message.get("tool_calls") else filter(str.strip, _texts(message)):
        behind_thought = THOUGHT.split(text)[-1].strip()
        if text.strip() not in written and not (behind_thought and behind_thought in written):
            raise ValueError(
                f"the text of message {number}, {text.strip()[:40]!r}, is not in what the chat template writes of it, "
                f"{written[:40]!r}: it leaves the text out or rewrites it"
            )


def last_words(message: Message) -> str:
    """The end of a message's text, without white space behind it; empty where there is none."""
    return "".join(_texts(message)[-1:]).strip()


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
