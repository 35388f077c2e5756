"""Renders a conversation so that each character of the text has an owner: one field of one message, or the template.

The texts of the messages go into the chat template as `Owned` text, which does what plain text does and keeps its
owners, and so does what Jinja makes of it (`compiling.py`).

So the map does not depend on how a template goes about it: a loop, a macro, one long string, an index into the
messages. That the text is the right one is checked, not assumed: whoever uses a `Written` compares its text with what
`apply_chat_template` writes, to the character.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from fttool.api import Message, ModelError, chat_text, template_limits
from fttool_plugins.masking.owned import Owned, Owner, join, owned, runs

if TYPE_CHECKING:
    from jinja2 import Template
    from transformers import PreTrainedTokenizerBase

_SEEN = "{{ [messages, tools, documents] | tojson }}"
"""A chat template that tells what a chat template gets to see: transformers drops nulls and renames thoughts."""


class Run(NamedTuple):
    """The characters `start` to `end` (exclusive) of a render, which have one owner."""

    start: int
    end: int
    owner: Owner


@dataclass(frozen=True, slots=True)
class Written:
    """A render; what no run covers is text of the template."""

    text: str
    runs: tuple[Run, ...]
    """In the order of the text; they do not overlap, and none is empty."""

    def owner(self, character: int) -> Owner | None:
        """Who wrote one character; None for the template."""
        at = bisect_right(self.runs, character, key=lambda run: run.start) - 1
        return self.runs[at].owner if at >= 0 and character < self.runs[at].end else None

    def is_said(self, start: int, end: int) -> bool:
        """Whether messages, tools or documents have written all characters from `start` to `end` (exclusive), and the
        template none of them; roles are the template's.
        """
        owners = [self.owner(character) for character in range(start, end)]
        return all(owner is not None and owner.field != "role" for owner in owners)

    def of(self, message: int, *fields: str) -> list[str]:
        """What a message's fields have in the text, piece by piece; without names, all of its fields."""
        mine = (run for run in self.runs if run.owner.message == message)
        return [self.text[run.start : run.end] for run in mine if not fields or run.owner.field in fields]


class Writer:
    """Renders conversations with a tokenizer's chat template and keeps who wrote what."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._compiled: dict[str, Template] = {}
        """Template → the same, compiled to keep owners."""
        self._as_given: set[tuple[str, ...]] = set()
        """Keys of messages, all of them texts, that a chat template gets to see as they are given."""

    def write(self, messages: Sequence[Message], template: Mapping[str, Any], **more: Any) -> Written:
        """Render once; `template` and `more` hold variables, as in `apply_chat_template`.

        Whatever the template raises comes through. Text of the `tools` and `documents` is owned by these (their
        message is None), that of the other variables by the template.
        """
        from fttool_plugins.masking.compiling import compiled  # Jinja, which nothing needs that reads no rows

        variables: dict[str, Any] = {**self._tokenizer.special_tokens_map, "add_generation_prompt": False}
        variables |= {**template, **more}
        given = {key: variables.pop(key, None) for key in ("tools", "documents")}
        source = self._tokenizer.get_chat_template(tools=given["tools"])
        seen, tools, documents = self._seen(messages, given)
        said = [{key: owned(value, index, key) for key, value in message.items()} for index, message in enumerate(seen)]
        variables |= {"tools": owned(tools, None, "tools"), "documents": owned(documents, None, "documents")}
        with template_limits():
            if source not in self._compiled:
                self._compiled[source] = compiled(source)
            return _read(join(self._compiled[source].generate(messages=said, **variables)))

    def _seen(self, messages: Sequence[Message], given: Mapping[str, Any]) -> tuple[Any, Any, Any]:
        """The messages, tools and documents as a chat template gets to see them.

        Asked once of messages that are texts with the same keys: what transformers changes hangs on these.
        """
        kinds = {tuple(message) for message in messages}
        texts = not any(given.values()) and all(type(text) is str for turn in messages for text in turn.values())
        if texts and kinds <= self._as_given:
            return messages, None, None
        seen, tools, documents = json.loads(chat_text(self._tokenizer, messages, chat_template=_SEEN, **given))
        if texts and seen == list(messages):
            self._as_given |= kinds
        return seen, tools, documents

    def tried(self, messages: Sequence[Message], template: Mapping[str, Any], **more: Any) -> Written | None:
        """`write`; None where the template refuses these messages, or there are none."""
        try:
            return self.write(messages, template, **more) if messages else None
        except ModelError:  # it does not end
            raise
        except Exception:  # a template is foreign code: it may raise anything
            return None


def _read(text: str) -> Written:
    merged: list[Run] = []
    place = 0
    for count, owner in runs(text):
        if owner and count:
            if merged and merged[-1].end == place and merged[-1].owner == owner:
                merged[-1] = Run(merged[-1].start, place + count, owner)
            else:
                merged.append(Run(place, place + count, owner))
        place += count
    return Written(
        "".join((text,)) if not isinstance(text, Owned) else str.__getitem__(text, slice(None)), tuple(merged)
    )
