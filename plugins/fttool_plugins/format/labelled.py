"""`labelled`: a text and the names of its classes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from typing_extensions import override

from fttool.api import Example, Format, FormatContext, Levels, RowReader
from fttool_plugins.format.columns import fetch


class Labelled(Format):
    """A text and its class: `{"text": "Win a prize!", "label": "spam"}`; or several: `{"text": "…", "labels": ["a"]}`.
    Where a task learns numbers, a text and its number: `{"text": "Well made.", "label": 4.5}`.

    Names are text, whole numbers, or true and false, all taken as text without white space around it. An empty list
    says that no class applies. A folder of text files in a folder per label holds such rows, and so does a CSV file
    with these columns.
    """

    name: Literal["labelled"] = "labelled"
    example: ClassVar[Mapping[str, Any]] = {"text": "Win a prize!", "label": "spam"}
    level: ClassVar[Levels] = ("row", "number")
    text: str = "text"
    """The column that holds the text."""
    second: str | None = None
    """The column of a second text, where a row is about two: an answer to a question, a hypothesis to a premise."""
    label: str | None = None
    """The column that holds the class, a list of them, or the number; default: `labels` or `label`, whichever a row
    has."""
    separator: Annotated[str, Field(min_length=1)] | None = None
    """What stands between several names in one text, as CSV must write them, e.g. `;`; default: a text is one name."""

    @override
    def build(self, ctx: FormatContext) -> RowReader:
        return lambda row, origin: read_labelled(row, origin, self, numbers=ctx.level == "number")


def read_labelled(row: Mapping[str, Any], origin: str, columns: Labelled, *, numbers: bool = False) -> Example:
    """The text of a row, and its classes or number; raises `ValueError` where one of them is missing, empty or of a
    wrong type.
    """
    column = columns.label or _label_column(row)
    text = _text(row, columns.text, "text")
    second = _text(row, columns.second, "second") if columns.second else ""
    label = fetch(row, column, "label", "labelled")
    return Example(
        origin=origin,
        prompt=text,
        second=second,
        labels=(read_number(label, column),) if numbers else read_names(label, column, columns.separator),
    )


def read_number(value: Any, column: str) -> str:
    """A number in its shortest spelling; text that spells one is one, as CSV holds nothing else. Raises `ValueError`
    for anything else, and for what is not finite.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"'{column}' must be a number, this is {type(value).__name__}")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        shown = repr(value) if isinstance(value, str) else "too large for a float"
        raise ValueError(f"'{column}' must be a number, as the task learns numbers; this is {shown}") from None
    if not math.isfinite(number):
        raise ValueError(f"'{column}' must be a finite number, this is {value}")
    return repr(number)


def read_names(value: Any, column: str, separator: str | None) -> tuple[str, ...]:
    """The names of classes in a column; raises `ValueError` for what cannot be one, and for one that stands twice."""
    if isinstance(value, str) and not value.strip() and not separator:
        csv = 'in CSV leave it empty and set format = {name = "labelled", separator = ";"}'
        raise ValueError(f"'{column}' is empty; to say that no class applies, write an empty list; {csv}")
    if isinstance(value, str) and separator:
        value = [part for part in value.split(separator) if part.strip()]
    if not isinstance(value, list | tuple):
        return (_name(value, f"'{column}'"),)
    names = tuple(_name(entry, f"entry {number} of '{column}'") for number, entry in enumerate(value, 1))
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"'{column}' names {twice[0]!r} twice")
    return names


def _name(value: Any, where: str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if not isinstance(value, str):
        kind = "null" if value is None else type(value).__name__
        raise ValueError(f"{where} must name a class as text or a whole number, this is {kind}")
    if not value.strip():
        raise ValueError(f"{where} is empty; to say that no class applies, write an empty list")
    return value.strip()


def _label_column(row: Mapping[str, Any]) -> str:
    if "label" in row and "labels" in row:
        which = 'format = {name = "labelled", label = "…"}'
        raise ValueError(f"the row has both 'label' and 'labels'; say which: {which}")
    return "labels" if "labels" in row else "label"


def _text(row: Mapping[str, Any], column: str, option: str) -> str:
    text = fetch(row, column, option, "labelled")
    if not isinstance(text, str):
        raise ValueError(f"'{column}' must be text, this is {type(text).__name__}")
    if not text.strip():
        raise ValueError(f"'{column}' is empty, so there is nothing to classify")
    return text
