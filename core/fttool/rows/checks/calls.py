"""Arguments of tool calls in the form that the run's chat template wants: as an object, or as JSON text.

Most templates take an object. Some join the arguments to their text, and either fail at an object or write Python's
`{'city': 'Oslo'}` for it: those are given JSON text. So one form is taught, and inference sees the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING, Any

from fttool.contracts.rows import Example, Message
from fttool.errors import FttoolError
from fttool.rows.templates import chat_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_NAME, _VALUE = "fttoolcity", "Oslo"
_ARGUMENTS = {_NAME: _VALUE}
_TOOLS = [{"type": "function", "function": {"name": "weather", "description": "", "parameters": {}}}]


class CallForm:
    """How one tokenizer's chat template wants the arguments of calls; tried when a row first has some."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer

    def shaped(self, example: Example) -> Example:
        """The example with the arguments of its calls in the template's form."""
        if not any(message.get("tool_calls") for message in example.messages) or not self._wants_text:
            return example
        return replace(example, messages=tuple(_with_text(message) for message in example.messages))

    @cached_property
    def _wants_text(self) -> bool:
        """True where no conversation with a call comes out right with an object, and one does with JSON text."""
        if not getattr(self._tokenizer, "chat_template", None):
            return False
        right = f'"{_NAME}": "{_VALUE}"'
        tried = list(product(("", None, "I look."), ({}, {"tools": _TOOLS})))
        written = [self._written(content, variables, _ARGUMENTS) for content, variables in tried]
        if any(_NAME in text and f"'{_NAME}': " not in text for text in written):
            return False
        return any(right in self._written(content, more, json.dumps(_ARGUMENTS)) for content, more in tried)

    def _written(self, content: str | None, variables: Mapping[str, Any], arguments: Any) -> str:
        """A conversation with a call as the template writes it; empty where it fails."""
        call = {"id": "call00001", "type": "function", "function": {"name": "weather", "arguments": arguments}}
        turns: Sequence[Message] = [
            {"role": "user", "content": "The weather?"},
            {"role": "assistant", "content": content, "tool_calls": [call]},
            {"role": "tool", "content": "Snow.", "name": "weather", "tool_call_id": "call00001"},
            {"role": "assistant", "content": "It snows."},
        ]
        try:
            return chat_text(self._tokenizer, turns, **variables)
        except FttoolError:
            raise
        except Exception:  # a template is foreign code: it may raise anything
            return ""


def _with_text(message: Message) -> Message:
    """A message whose calls have their arguments as JSON text."""
    calls: Any = message.get("tool_calls")
    return {**message, "tool_calls": [_call(call) for call in calls]} if calls else message


def _call(call: Any) -> Any:
    if not isinstance(call, Mapping):
        return call
    if isinstance(call.get("function"), Mapping):
        return {**call, "function": _call(call["function"])}
    if isinstance(call.get("arguments"), Mapping | list):
        return {**call, "arguments": json.dumps(call["arguments"], ensure_ascii=False)}
    return call
