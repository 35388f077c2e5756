"""Rows with classes: what is read as a name, and what is refused."""

from functools import partial
from typing import Any

import pytest

from fttool.api import Example
from fttool_plugins.format.labelled import Labelled

from .reading import ORIGIN, read_as

read = partial(read_as, Labelled)


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("spam", ("spam",)),
        (" spam\n", ("spam",)),
        (3, ("3",)),
        (True, ("true",)),
        (["a", 2, False], ("a", "2", "false")),
        ([], ()),
    ],
)
def test_names_of_classes(value: Any, names: tuple[str, ...]) -> None:
    assert read({"text": "a text", "label": value}).labels == names
    assert read({"text": "a text", "labels": value}).labels == names


def test_the_text_is_the_prompt_and_stays_as_it_is() -> None:
    example = read({"text": " a\ntext ", "label": "x", "more": 1})
    assert example == Example(origin=ORIGIN, prompt=" a\ntext ", labels=("x",))
    assert example.answer() == " a\ntext "


def test_two_texts() -> None:
    example = read({"a": "It rains.", "b": "It is wet.", "gold": 0}, text="a", second="b", label="gold")
    assert (example.prompt, example.second, example.labels) == ("It rains.", "It is wet.", ("0",))


def test_several_names_in_one_text() -> None:
    assert read({"text": "t", "label": "a; b ;"}, separator=";").labels == ("a", "b")
    assert read({"text": "t", "label": "a; b"}).labels == ("a; b",)
    assert read({"text": "t", "label": ""}, separator=";").labels == ()


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"text": "t"}, "no 'label'"),
        ({"text": "t", "label": None}, "'label' is null"),
        ({"text": "t", "label": 1.0}, "this is float"),
        ({"text": "t", "label": {"a": 1}}, "this is dict"),
        ({"text": "t", "label": " "}, "is empty"),
        ({"text": "t", "label": ""}, 'in CSV leave it empty and set format = {name = "labelled", separator = ";"}'),
        (
            {"text": "t", "label": ["a", None]},
            "entry 2 of 'label' must name a class as text or a whole number, this is null",
        ),
        ({"text": "t", "label": ["a", "a"]}, "names 'a' twice"),
        ({"text": "t", "label": "a", "labels": ["b"]}, "both 'label' and 'labels'"),
        ({"text": " ", "label": "a"}, "nothing to classify"),
        ({"text": ["t"], "label": "a"}, "must be text, this is list"),
        ({"texts": "t", "label": "a"}, 'did you mean format = {name = "labelled", text = "texts"}?'),
    ],
)
def test_bad_rows_are_refused(row: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError) as refused:
        read(row)
    assert said in str(refused.value)
