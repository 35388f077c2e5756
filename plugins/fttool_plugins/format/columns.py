"""A row's columns: fetch one, or say which there are and what to write into the recipe for them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

_FORMATS = (
    ("messages", {"messages"}),
    ("prompt-completion", {"prompt", "completion"}),
    ("labelled", {"text", "label"}),
    ("labelled", {"text", "labels"}),
    ("text", {"text"}),
)
"""The columns by which a row of another format is known."""
_PAIRS = (
    ("instruction", "output"),
    ("instruction", "response"),
    ("question", "answer"),
    ("prompt", "response"),
    ("input", "output"),
)
"""What other datasets call a prompt and its completion."""


def fetch(row: Mapping[str, Any], column: str, option: str, format_id: str) -> Any:
    """The row's value in `column`.

    Args:
        row: The raw row.
        column: The column's name.
        option: The format's option that names the column, for advice.
        format_id: The format that asks, for advice.

    Raises:
        ValueError: where the row has no such column, or null in it.
    """
    if column not in row:
        there = f"its columns: {_quoted(list(row)[:8])}" if row else "it has no columns"
        raise ValueError(f"the row has no '{column}' ({there}){_advice(row, column, option, format_id)}")
    value = row[column]
    if value is None:
        raise ValueError(f"'{column}' is null")
    return value


def _advice(row: Mapping[str, Any], column: str, option: str, format_id: str) -> str:
    """A clause that says what to write instead; empty where the columns remind of nothing."""
    for other, columns in _FORMATS:
        if other != format_id and columns <= row.keys():
            return f'; it looks like format = "{other}"'
    turns = row.get("conversations")
    if isinstance(turns, list) and turns:
        if isinstance(turns[0], Mapping) and "from" in turns[0]:
            return (
                "; it looks like ShareGPT: rename 'conversations' to 'messages', in each turn 'from' to 'role' "
                "and 'value' to 'content', and the roles 'human' to 'user' and 'gpt' to 'assistant'"
            )
        return '; try format = {name = "messages", column = "conversations"}'
    if row.get("input") and "instruction" in row:
        return "; join 'instruction' and 'input' to one column 'prompt', and rename the answer to 'completion'"
    for prompt, completion in _PAIRS:
        if {prompt, completion} <= row.keys():
            return f'; try format = {{name = "prompt-completion", prompt = "{prompt}", completion = "{completion}"}}'
    near = difflib.get_close_matches(column, list(row), n=1)
    return f'; did you mean format = {{name = "{format_id}", {option} = "{near[0]}"}}?' if near else ""


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
