"""Rows of any shape: each format reads them or says in a sentence why not; nothing else is raised."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest

from fttool.contracts.rows import Example, Format, FormatContext
from fttool.plugins import Plugins
from fttool.rows.checks.noted import noted_row

FORMATS = [kind for kind in Plugins.of().family("format") if issubclass(kind, Format) and not kind.chooses]
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1.5, "", " ", "text", "user", "assistant", "system", "tool", "{}", "[1]", "null"),
    *(
        [],
        {},
        [[]],
        [{}],
        [None],
        {"role": "user"},
        {"content": []},
        {"type": "text", "text": 3},
        ["a", "b"],
        [["q", "a"]],
    ),
)
KEYS = (
    "messages",
    "role",
    "content",
    "tools",
    "tool_calls",
    "function",
    "arguments",
    "name",
    "text",
    "label",
    "a.b",
    "",
)


def mutated(value: Any, draw: random.Random) -> Any:
    """The same with something in it replaced, gone, twice, renamed, or put into a list or an object."""
    if isinstance(value, dict) and value and draw.random() < 0.7:
        key = draw.choice(list(value))
        match draw.randrange(6):
            case 0:
                del value[key]
            case 1:
                value[draw.choice(KEYS)] = value[key]
            case 2:
                value[draw.choice(KEYS)] = copy.deepcopy(draw.choice(ODD))
            case _:
                value[key] = mutated(value[key], draw)
        return value
    if isinstance(value, list) and value and draw.random() < 0.7:
        place = draw.randrange(len(value))
        match draw.randrange(5):
            case 0:
                del value[place]
            case 1:
                value.insert(place, copy.deepcopy(value[place]))
            case 2:
                value.reverse()
            case _:
                value[place] = mutated(value[place], draw)
        return value
    return [value] if draw.random() < 0.1 else copy.deepcopy(draw.choice(ODD))


@pytest.mark.parametrize("kind", FORMATS, ids=lambda kind: kind.id())
def test_a_row_of_any_shape_is_read_or_refused(kind: type[Format]) -> None:
    draw = random.Random(kind.id())
    read, refused = 0, 0
    for chat in (None, True, False):
        form = kind().build(FormatContext(origin="rows.jsonl", level=None, chat=chat))  # pyright: ignore
        for _ in range(600):
            row: Any = copy.deepcopy(dict(kind.example))
            for _ in range(draw.randrange(1, 4)):
                row = mutated(row, draw)
            if not isinstance(row, dict):
                continue
            noted, _, _ = noted_row(row)
            try:
                example = form(noted, "rows.jsonl:1")
            except ValueError as wrong:
                assert " " in str(wrong), "not a sentence"
                refused += 1
                continue
            assert isinstance(example, Example) and example.origin == "rows.jsonl:1"
            assert not (example.messages and (example.prompt or example.completion))
            assert all(isinstance(turn.get("role"), str) for turn in example.messages)
            read += 1
    assert read and refused
