"""`alpaca`: an instruction, what it is about, and the answer, in columns of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from typing_extensions import override

from fttool.api import Example, Format, FormatContext, Message, RowReader
from fttool_plugins.format.columns import fetch


class Alpaca(Format):
    """An instruction and its answer: `{"instruction": "Sum it up.", "input": "A long text …", "output": "Short."}`.

    They become a conversation, which the model's chat template writes: the user's turn is the instruction and, where
    the row has one, a blank line and the input; the assistant's turn is the output. `system` stands in front as a
    system turn. `history` holds earlier rounds, `[["question", "answer"], …]`; their answers are learned too, unless
    masking is `completion`. Input, system and history may be missing, null or empty in any row.
    """

    name: Literal["alpaca"] = "alpaca"
    example: ClassVar[Mapping[str, Any]] = {"instruction": "Sum it up.", "input": "A long text.", "output": "Short."}
    instruction: str = "instruction"
    """The column of what is to be done."""
    input: str = "input"
    """The column of what it is to be done with."""
    output: str = "output"
    """The column of the answer."""
    system: str = "system"
    """The column of the system turn."""
    history: str = "history"
    """The column of earlier rounds."""

    @override
    def build(self, ctx: FormatContext) -> RowReader:
        return lambda row, origin: read_alpaca(row, origin, self)


def read_alpaca(row: Mapping[str, Any], origin: str, columns: Alpaca) -> Example:
    """The conversation of a row; raises `ValueError` where its instruction or its output is missing or is not text."""
    instruction = text(fetch(row, columns.instruction, "instruction", "alpaca"), columns.instruction)
    output = text(fetch(row, columns.output, "output", "alpaca"), columns.output)
    taken = (columns.instruction, columns.output)  # `instruction = "input"`: the column is not read once more as input
    about = "" if columns.input in taken else optional(row, columns.input)
    system = "" if columns.system in taken else optional(row, columns.system)
    history = [] if columns.history in taken else rounds(row.get(columns.history), columns.history)
    messages: list[Message] = [{"role": "system", "content": system}] if system else []
    for asked, answered in history:
        messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
    messages += [
        {"role": "user", "content": f"{instruction}\n\n{about}" if about else instruction},
        {"role": "assistant", "content": output},
    ]
    return Example(origin=origin, messages=tuple(messages), completion_from=len(messages) - 1)


def text(value: Any, column: str) -> str:
    """The text in a column; raises `ValueError` where it is not text or is empty."""
    if not isinstance(value, str):
        raise ValueError(f"'{column}' must be text, this is {type(value).__name__}")
    if not value.strip():
        raise ValueError(f"'{column}' is empty, so there is nothing to learn")
    return value


def optional(row: Mapping[str, Any], column: str) -> str:
    """The text in a column that may be missing, null or blank, and is "" then; raises `ValueError` for another type."""
    value = row.get(column)
    if value is None or (isinstance(value, str) and not value.strip()):
        return ""
    return text(value, column)


def rounds(value: Any, column: str) -> list[tuple[str, str]]:
    """The earlier rounds of a row, (asked, answered) each; raises `ValueError` where they are not pairs of texts."""
    if value is None or value in ("", []):
        return []
    if not isinstance(value, list | tuple) or not all(
        isinstance(pair, list | tuple) and len(pair) == 2 for pair in value
    ):
        raise ValueError(f"'{column}' must be a list of pairs of texts, [question, answer] each")
    return [
        (text(asked, f"{column}[{place}][0]"), text(answered, f"{column}[{place}][1]"))
        for place, (asked, answered) in enumerate(value)
    ]
