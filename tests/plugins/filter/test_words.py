"""Rows are kept by the number of words in their answer."""

from typing import Any

import pytest
from pydantic import ValidationError

from fttool.api import Example
from fttool.testing import filter_context
from fttool_plugins.filter.words import Words


def text(completion: str) -> Example:
    return Example(origin="rows.jsonl:1", prompt="many words that do not count", completion=completion)


def chat(*answers: str) -> Example:
    turns: list[dict[str, str]] = []
    for answer in answers:
        turns += [{"role": "user", "content": "a b c d"}, {"role": "assistant", "content": answer}]
    return Example(origin="rows.jsonl:1", messages=tuple(turns), completion_from=len(turns) - 1)


def reasons(examples: list[Example], **options: Any) -> list[str | None]:
    return list(Words(**options).build(filter_context())(examples))


def test_the_bounds_are_inclusive() -> None:
    rows = [text("a"), text(" a\n b "), chat("a b c"), chat("a", "b c d"), text("a b c d e")]
    assert reasons(rows, min=2, max=4) == ["fewer than 2 words", None, None, None, "more than 4 words"]


def test_by_default_any_answer_of_a_word_is_kept() -> None:
    call = Example(origin="rows.jsonl:1", messages=({"role": "assistant", "content": None, "tool_calls": [{}]},))
    assert reasons([text("a"), text("a " * 10_000), call]) == [None, None, "fewer than 1 words"]
    assert reasons([call], min=0) == [None]
    assert reasons([]) == []


@pytest.mark.parametrize("options", [{"min": -1}, {"max": -1}, {"min": 3, "max": 2}, {"min": 1.5}, {"least": 3}])
def test_bad_options(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Words(**options)
