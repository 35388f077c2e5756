"""Rows that note what is read of them, so that a column which nobody reads can be said, whatever format reads the rows.

To look a key up is to read it; to ask whether it is there, or which keys there are, is not. The turns of a conversation
note it too, and so do the parts of which a turn's content may consist.
"""

from __future__ import annotations

from collections.abc import Collection, ItemsView, Iterator, Mapping, Sequence, ValuesView
from typing import Any

from fttool.plain import is_array, is_table

PART = "content[]."
"""What keys of a part of a turn's content are named with in front."""


class Noted(dict[str, Any]):
    """A row or a turn, and the keys of it that were read."""

    def __init__(self, values: Mapping[str, Any] = {}, within: str = "") -> None:
        super().__init__(values)
        self.noted: set[str] = set()
        self.within = within
        """What its keys are named with in front: `content[].` for those of a part of a turn."""

    def __getitem__(self, key: str) -> Any:
        self.noted.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The value of a key, which is read by this."""
        self.noted.add(key)
        return super().get(key, default)

    def __iter__(self) -> Iterator[str]:
        """The keys. That there is an `__iter__` of its own makes `dict(row)` and `{**row}` look each value up."""
        return super().__iter__()

    def items(self) -> ItemsView[str, Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Keys and values, all of which are read by this."""
        self.noted.update(self.keys())
        return super().items()  # pyright: ignore[reportReturnType]

    def values(self) -> ValuesView[Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The values, all of which are read by this."""
        self.noted.update(self.keys())
        return super().values()  # pyright: ignore[reportReturnType]


def noted_row(row: Mapping[str, Any], ignore: Collection[str] = ()) -> tuple[Noted, list[Noted], set[str]]:
    """The row; the turns in it and the parts of their contents, each noting what is read of it, without the keys to
    `ignore`; and which of those there were.
    """
    met: set[str] = set()
    turns: list[Noted] = []

    def noted(values: Mapping[str, Any], within: str = "") -> Noted:
        met.update(key for key in ignore if key in values)
        values_read = {key: value for key, value in values.items() if key not in ignore} if ignore else values
        return Noted(values_read, within)

    def noted_part(part: Any) -> Any:
        if not is_table(part):
            return part
        turns.append(noted(part, PART))
        return turns[-1]

    def noted_turn(turn: Any) -> Any:
        if not _is_turn(turn):
            return turn
        turn_noted = noted(turn)
        turns.append(turn_noted)
        parts = dict.get(turn_noted, "content")
        if is_array(parts):
            dict.__setitem__(turn_noted, "content", [noted_part(part) for part in parts])
        return turn_noted

    row_noted = noted(row)
    for key, value in row.items():
        if key in row_noted and is_array(value) and any(map(_is_turn, value)):
            dict.__setitem__(row_noted, key, [noted_turn(turn) for turn in value])
    return row_noted, turns, met


def filled(value: Any) -> bool:
    """Whether something stands in a column: not null, blank text, or an empty list or object; false and 0 do."""
    if isinstance(value, str):
        return bool(value.strip())
    return value is not None and not (isinstance(value, Sequence | Mapping) and not value)


def _is_turn(value: Any) -> bool:
    return is_table(value) and ("role" in value or "from" in value)
