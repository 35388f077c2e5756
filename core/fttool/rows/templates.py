"""Conversations written by a chat template: the one door to it, with limits of what it may take and write."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fttool.contracts.rows import Example
from fttool.rows.limits import refusal, template_limits

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHARACTERS, TIMES = 2**20, 32
"""A render of more characters than this, and of so many times those of the conversation, is an error."""


def chat_text(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Mapping[str, Any]], **variables: Any) -> str:
    """The conversation as the chat template writes it.

    `variables` go to `apply_chat_template`: `tools`, `add_generation_prompt`, `chat_template`, and all else to the
    template. Raises `ModelError` where the template does not end, or takes or writes too much; whatever else it raises
    comes through.
    """
    turns = [dict(message) for message in messages]
    with template_limits():
        text = str(tokenizer.apply_chat_template(turns, tokenize=False, **variables))
    if len(text) > CHARACTERS:
        template = {name: value for name, value in variables.items() if name != "chat_template"}
        given = len(json.dumps([turns, template], default=str))
        if len(text) > TIMES * given:
            raise refusal(f"writes {len(text):,} characters for a conversation of {given:,}")
    return text


def chat_ids(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Mapping[str, Any]], **variables: Any) -> list[int]:
    """The tokens of `chat_text`; special tokens are those that the template writes."""
    text = chat_text(tokenizer, messages, **variables)
    ids: Any = tokenizer(text, add_special_tokens=False)["input_ids"]
    return list(ids)


def shared_variables(examples: Iterable[Example]) -> dict[str, Any]:
    """The variables for the chat template that all conversations have with one value; tools and documents are apart."""
    shared: dict[str, Any] | None = None
    for example in examples:
        if example.messages:
            own = {name: value for name, value in example.template.items() if name not in ("tools", "documents")}
            shared = own if shared is None else {name: shared[name] for name in shared if own.get(name) == shared[name]}
            if not shared:
                break
    return shared or {}
