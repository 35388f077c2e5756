"""`gemini`: conversations as the tuning files and the API of Gemini write them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from typing_extensions import override

from fttool.api import Example, Format, FormatContext, RowReader
from fttool_plugins.format.bedrock import as_turn, joined_parts
from fttool_plugins.format.columns import fetch
from fttool_plugins.format.conversation import Turns, each_turn
from fttool_plugins.format.pairs import Writing, of_turns

ROLES = {"user": "user", "model": "assistant"}
"""Gemini's roles in the words of chat templates."""


class Gemini(Format):
    """A conversation of Gemini: `{"systemInstruction": {"parts": [{"text": "…"}]}, "contents": [{"role": "user",
    "parts": [{"text": "…"}]}, {"role": "model", "parts": [{"text": "…"}]}]}`.

    `systemInstruction`, or `system_instruction`, may be missing. Parts of a turn are joined; one that is not text (a
    file, the call of a function) is refused. Marks of turns are as in `messages`, and the last turn must be the
    model's.
    """

    name: Literal["gemini"] = "gemini"
    example: ClassVar[Mapping[str, Any]] = {
        "systemInstruction": {"parts": [{"text": "Answer briefly."}]},
        "contents": [
            {"role": "user", "parts": [{"text": "Is it far?"}]},
            {"role": "model", "parts": [{"text": "Two miles."}]},
        ],
    }
    column: str = "contents"
    """The column that holds the list of turns."""
    system: str = "systemInstruction"
    """The column of the system turn."""

    @override
    def build(self, ctx: FormatContext) -> RowReader:
        return lambda row, origin: read_gemini(row, origin, self)


def read_gemini(row: Mapping[str, Any], origin: str, options: Gemini) -> Example:
    """The conversation of a row; raises `ValueError` where there is none to learn from."""
    turns = Turns((), frozenset())
    for turn, where in each_turn(fetch(row, options.column, "column", "gemini"), options.column):
        role = ROLES.get(str(turn.get("role"))) if isinstance(turn, Mapping) else None
        if role is None:
            raise ValueError(f'{where} must be {{"role": "user" or "model", "parts": [{{"text": "…"}}]}}')
        text = joined_parts(turn.get("parts"), f"the parts of {where}")
        turns += as_turn(turn, role, text, where, ("role", "parts"))
    writing = Writing(turns=True, system=_system(row, options.system))
    return of_turns(origin, turns, len(turns.messages) - 1, {}, writing)


def _system(row: Mapping[str, Any], column: str) -> str:
    """The text of the system turn, "" for none; raises `ValueError` where it has another shape."""
    for name in (column, "system_instruction") if column == "systemInstruction" else (column,):
        value = row.get(name)
        if isinstance(value, Mapping) and "parts" in value:
            return joined_parts(value["parts"], f"'{name}'")
        if value:
            raise ValueError(f'\'{name}\' must be {{"parts": [{{"text": "…"}}]}}, this is {type(value).__name__}')
    return ""
