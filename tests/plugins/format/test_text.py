"""Plain text."""

from functools import partial
from typing import Any

import pytest

from fttool.api import Example
from fttool_plugins.format.text import Text

from .reading import read_as

read = partial(read_as, Text)


def test_text_is_left_as_it_stands() -> None:
    assert read({"text": " a\n", "id": 1}) == Example(origin="rows.jsonl:7", completion=" a\n")
    assert read({"body": "b"}, column="body").completion == "b"


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"text": ""}, "'text' is empty, so there is nothing to learn"),
        ({"text": "\n "}, "'text' is empty, so there is nothing to learn"),
        ({"text": None}, "'text' is null"),
        ({"text": ["a"]}, "'text' must be text, this is list"),
        (
            {"messages": []},
            "the row has no 'text' (its columns: 'messages'); it looks like format = \"messages\"",
        ),
        (
            {"texts": "a"},
            "the row has no 'text' (its columns: 'texts'); "
            'did you mean format = {name = "text", column = "texts"}?',
        ),
    ],
)
def test_bad_rows(row: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError) as caught:
        read(row)
    assert str(caught.value) == sentence
