"""A row as inference sees it: its prompt in tokens and in words, and the answer that it teaches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fttool.contracts.rows import Example
from fttool.rows.templates import chat_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def prompt_ids(example: Example, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that inference sees before the answer: the prompt, and for a chat the template's generation prompt."""
    if example.messages:
        asked = example.messages[: example.completion_from]
        return chat_ids(tokenizer, asked, add_generation_prompt=True, **example.template)
    return list(tokenizer(example.prompt)["input_ids"])


def whole_length(example: Example, tokenizer: PreTrainedTokenizerBase) -> int:
    """Tokens of the whole row, its answers and second text included."""
    if example.messages:
        return len(chat_ids(tokenizer, example.messages, **example.template))
    return len(tokenizer(example.prompt + example.completion, example.second or None)["input_ids"])


def expected_answer(example: Example) -> str:
    """The answer that the row teaches."""
    if example.labels is not None:
        return ", ".join(example.labels) or "no class"
    if example.messages:
        return str(example.messages[example.completion_from].get("content") or "")
    return example.completion


def question(example: Example) -> str:
    """The prompt in a person's words: the last turn before the answer."""
    if example.messages:
        turns = example.messages[: example.completion_from]
        return str(turns[-1].get("content") or "") if turns else ""
    return example.prompt
