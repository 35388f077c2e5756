"""Rows are kept by the length of a part of them, in words, characters or tokens."""

from __future__ import annotations

import random
from typing import Any

import pytest
from pydantic import ValidationError

from fttool.api import Example
from fttool.testing import filter_context, tiny_tokenizer
from fttool_plugins.filter.length import Length


def chat(*contents: str) -> Example:
    roles = ("user", "assistant") * len(contents)
    turns = tuple({"role": role, "content": text} for role, text in zip(roles, contents, strict=False))
    return Example(origin="rows.jsonl:1", messages=turns, completion_from=len(contents) - 1)


def reasons(examples: list[Example], **options: Any) -> list[Any]:
    return list(Length(**options).build(filter_context())(examples))


@pytest.mark.parametrize("unit", ["words", "characters", "tokens"])
@pytest.mark.parametrize("of", ["prompt", "answer", "row"])
def test_bounds_are_exact(unit: str, of: str) -> None:
    """Random texts: a row is kept by the bounds of its own length, and by no tighter ones."""
    draw, tokenizer = random.Random(0), tiny_tokenizer()
    count = {
        "words": lambda text: len(text.split()),
        "characters": len,
        "tokens": lambda text: len(tokenizer.encode(text)),
    }
    for _ in range(20):
        question, answer = (
            " ".join(draw.choices(["a", "naïve", "b\n", "语言", "word"], k=draw.randint(1, 9))) for _ in "ab"
        )
        for example in (chat(question, answer), Example(origin="r:1", prompt=question, completion=answer)):
            lengths = {"prompt": count[unit](question), "answer": count[unit](answer)}
            lengths["row"] = sum(lengths.values())
            if (unit, of) == ("tokens", "row"):
                lengths["row"] = filter_context().tokens(example)
            length, subject = lengths[of], "" if of == "answer" else f"{of} of "
            options = {"unit": unit, "of": of}
            assert reasons([example], min=length, max=length, **options) == [None]
            assert reasons([example], min=length + 1, **options) == [f"{subject}fewer than {length + 1} {unit}"]
            assert reasons([example], min=0, max=length - 1, **options) == [f"{subject}more than {length - 1} {unit}"]


def test_calls_and_thoughts_count_and_empty_answers_are_dropped() -> None:
    call = {"type": "function", "function": {"name": "look", "arguments": {"place": "old town"}}}
    turns = ({"role": "user", "content": "?"}, {"role": "assistant", "content": None, "tool_calls": [call]})
    assert reasons([Example(origin="r:1", messages=turns), chat("?", " "), chat("?", "a")]) == [
        None,
        "fewer than 1 words",
        None,
    ]


def test_a_row_that_the_template_cannot_write_is_left_to_what_says_so() -> None:
    def refuse(example: Example) -> int:
        raise ValueError("the chat template cannot write it")

    context = filter_context(tokens=refuse)
    assert Length(unit="tokens", of="row", min=5).build(context)([chat("?", "a")]) == [None]


@pytest.mark.parametrize("options", [{"min": -1}, {"max": -1}, {"min": 3, "max": 2}, {"unit": "lines"}, {"of": "all"}])
def test_bad_options(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Length(**options)
