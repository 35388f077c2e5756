"""The parts of a row that filters look at, as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from fttool.api import Example

Part: TypeAlias = Literal["row", "prompt", "answer"]


def part_text(example: Example, part: Part) -> str:
    """All that is said (`row`), what comes before the completion (`prompt`), or what is learned (`answer`).

    Of a turn that is everything but its role: thoughts, and the names and arguments of calls, too. Empty where the row
    has no such part.
    """
    if example.messages:
        turns = list(enumerate(example.messages))
        if part == "prompt":
            turns = turns[: example.completion_from]
        elif part == "answer":
            turns = [(n, turn) for n, turn in turns if turn.get("role") == "assistant" and n not in example.unlearned]
        return "\n".join(text for _, turn in turns for text in texts({**turn, "role": ""}))
    if part == "answer":
        return example.answer()
    return "\n".join(filter(None, [example.prompt, example.second, "" if part == "prompt" else example.completion]))


def texts(value: Any) -> Iterator[str]:
    """Every text and number in tables and lists within each other, in their order."""
    if isinstance(value, Mapping):
        for inner in value.values():  # pyright: ignore[reportUnknownVariableType]
            yield from texts(inner)
    elif isinstance(value, str):
        yield from [value] if value else []
    elif isinstance(value, Sequence):
        for inner in value:  # pyright: ignore[reportUnknownVariableType]
            yield from texts(inner)
    elif value is not None:
        yield str(value)
