"""The parts of a row that filters look at, as text; and a row whose text is rewritten."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeAlias

from fttool.api import Example

Part: TypeAlias = Literal["row", "prompt", "answer"]


def part_text(example: Example, part: Part) -> str:
    """All that is said (`row`), what comes before the completion (`prompt`), or what is learned (`answer`).

    Of a turn that is everything but its role: thoughts, and the names and arguments of calls, too. Empty where the row
    has no such part.
    """
    return "\n".join(part_texts(example, part))


def part_texts(example: Example, part: Part) -> list[str]:
    """The same, text by text; none of them is empty."""
    if example.messages:
        turns = list(enumerate(example.messages))
        if part == "prompt":
            turns = turns[: example.completion_from]
        elif part == "answer":
            turns = [(n, turn) for n, turn in turns if turn.get("role") == "assistant" and n not in example.unlearned]
        return [text for _, turn in turns for text in texts({**turn, "role": ""})]
    if part == "answer":
        return list(filter(None, [example.answer()]))
    return list(filter(None, [example.prompt, example.second, "" if part == "prompt" else example.completion]))


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


def all_text(example: Example) -> str:
    """Everything in a row: its turns with their calls and thoughts, and what the template is given beside them."""
    return "\n".join([part_text(example, "row"), *texts(example.template)])


def rewritten(example: Example, write: Callable[[str], str]) -> Example:
    """The row with each of its texts as `write` has it: those of turns, calls, thoughts and tools too; roles stay.

    Of a row whose words have classes each word, and what stands between two, is a text of its own.
    """
    prompt, words = _rewritten_words(example, write) if example.words else (write(example.prompt), ())
    return replace(
        example,
        messages=tuple(
            {key: value if key == "role" else rewritten_value(value, write) for key, value in turn.items()}
            for turn in example.messages
        ),
        template=rewritten_value(example.template, write),
        prompt=prompt,
        words=words,
        completion=write(example.completion),
        second=write(example.second),
    )


def rewritten_value(value: Any, write: Callable[[str], str]) -> Any:
    """Tables and lists within each other with each text rewritten; of a number the text, where that changes it."""
    if isinstance(value, Mapping):
        return {key: rewritten_value(inner, write) for key, inner in value.items()}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, str):
        return write(value)
    if isinstance(value, Sequence):
        return [rewritten_value(inner, write) for inner in value]  # pyright: ignore[reportUnknownVariableType]
    if value is None or isinstance(value, bool):
        return value
    written = write(str(value))
    return value if written == str(value) else written


def _rewritten_words(example: Example, write: Callable[[str], str]) -> tuple[str, tuple[tuple[int, int], ...]]:
    """The text, and where its words are now. One that would vanish stays as it is, for it has a class."""
    text, places, end = "", list[tuple[int, int]](), 0
    for start, stop in example.words:
        text += write(example.prompt[end:start])
        word = example.prompt[start:stop]
        places.append((len(text), len(text) + len(written := write(word) or word)))
        text, end = text + written, stop
    return text + write(example.prompt[end:]), tuple(places)
