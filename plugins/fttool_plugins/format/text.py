"""`text`: plain text, all of it learned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from typing_extensions import override

from fttool.api import Example, Format, FormatContext, RowReader
from fttool_plugins.format.columns import fetch


class Text(Format):
    """Plain text: `{"text": "…"}`. It is learned as it stands, without a chat template."""

    name: Literal["text"] = "text"
    example: ClassVar[Mapping[str, Any]] = {"text": "It rains."}
    column: str = "text"
    """The column that holds the text."""

    @override
    def build(self, ctx: FormatContext) -> RowReader:
        return lambda row, origin: read_text(row, origin, self.column)


def read_text(row: Mapping[str, Any], origin: str, column: str) -> Example:
    """The text in `column`; raises `ValueError` where there is none."""
    text = fetch(row, column, "column", "text")
    if not isinstance(text, str):
        raise ValueError(f"'{column}' must be text, this is {type(text).__name__}")
    if not text.strip():
        raise ValueError(f"'{column}' is empty, so there is nothing to learn")
    return Example(origin=origin, completion=text)
