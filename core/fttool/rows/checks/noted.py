"""Rows that note what is read of them, so that a column which nobody reads can be said, whatever format reads the rows.

To look a key up is to read it; to ask whether it is there, or which keys there are, is not. The turns of a conversation
note it too, and so do the parts of which a turn's content may consist, and the objects in a row's columns. Of those a
key is looked up by its path: `data.messages` is what `messages` holds in the column `data`, unless a column has that
very name.
"""

from __future__ import annotations

from collections.abc import Collection, ItemsView, Iterator, Mapping, Sequence, ValuesView
from typing import Any

from fttool.plain import is_array, is_table

PART = "content[]."
"""What keys of a part of a turn's content are named with in front."""

DEEPEST = 8
"""Levels of objects inside columns whose keys are told apart; what lies deeper is read as a whole, or not at all."""


class Noted(dict[str, Any]):
    """A row or a turn, and the keys of it that were read."""

    def __init__(self, values: Mapping[str, Any] = {}, within: str = "") -> None:
        super().__init__(values)
        self.noted: set[str] = set()
        self.within = within
        """What its keys are named with in front: `content[].` for those of a part of a turn, `data.` inside `data`."""
        self.whole = False
        """True where all of it was taken at once, so that its keys are not told apart."""

    def __getitem__(self, key: str) -> Any:
        if "." not in key:
            self.noted.add(key)
            return dict.__getitem__(self, key)
        holder, last = self._held(key)
        self._note(key, holder)
        return dict.__getitem__(holder, last)

    def __contains__(self, key: object) -> bool:
        if dict.__contains__(self, key) or not isinstance(key, str) or "." not in key:
            return dict.__contains__(self, key)
        holder, last = self._held(key)
        return dict.__contains__(holder, last)

    def get(self, key: str, default: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The value of a key, which is read by this."""
        if "." not in key:
            self.noted.add(key)
            return dict.get(self, key, default)
        holder, last = self._held(key)
        self._note(key, holder)
        return dict.get(holder, last, default)

    def __reduce__(self) -> tuple[Any, ...]:
        """Put away, it is a plain table: who reads of it is noted no more."""
        return dict, (list(self.items()),)

    def _held(self, key: str) -> tuple[Noted, str]:
        """Where a key stands: here, or in an object of a column that the first part of its path names."""
        head, dot, rest = key.partition(".")
        inside = dict.get(self, head) if dot and not dict.__contains__(self, key) else None
        return inside._held(rest) if isinstance(inside, Noted) else (self, key)

    def _note(self, key: str, holder: Noted) -> None:
        """Note a key as read, and each part of its path down to its holder."""
        if holder is self:
            self.noted.add(key)
            return
        head, _, rest = key.partition(".")
        self.noted.add(head)
        dict.__getitem__(self, head)._note(rest, holder)

    def __iter__(self) -> Iterator[str]:
        """The keys. That there is an `__iter__` of its own makes `dict(row)` and `{**row}` look each value up."""
        return super().__iter__()

    def items(self) -> ItemsView[str, Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Keys and values, all of which are read by this."""
        self.noted.update(self.keys())
        self.whole = True
        return super().items()  # pyright: ignore[reportReturnType]

    def values(self) -> ValuesView[Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The values, all of which are read by this."""
        self.noted.update(self.keys())
        self.whole = True
        return super().values()  # pyright: ignore[reportReturnType]


Noted.__name__ = "dict"  # by which a format says what a column holds in place of text


def noted_row(row: Mapping[str, Any], ignore: Collection[str] = ()) -> tuple[Noted, list[Noted], set[str]]:
    """The row; the turns in it and the parts of their contents, each noting what is read of it, without the keys to
    `ignore` (`data.id` is one inside `data`); and which of those there were.
    """
    met: set[str] = set()
    turns: list[Noted] = []

    def noted(values: Mapping[str, Any], within: str = "") -> Noted:
        here = [key for key in values if key in ignore or within + key in ignore] if ignore else []
        met.update(key if key in ignore else within + key for key in here)
        return Noted({key: value for key, value in values.items() if key not in here} if here else values, within)

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

    def noted_table(values: Mapping[str, Any], within: str = "") -> Noted:
        table = noted(values, within)
        for key in table.keys():  # noqa: SIM118 - items() would read them
            value = dict.__getitem__(table, key)
            if is_array(value) and any(map(_is_turn, value)):
                dict.__setitem__(table, key, [noted_turn(turn) for turn in value])
            elif is_table(value) and within.count(".") < DEEPEST:
                dict.__setitem__(table, key, noted_table(value, f"{within}{key}."))
        return table

    return noted_table(row), turns, met


def filled(value: Any) -> bool:
    """Whether something stands in a column: not null, blank text, or an empty list or object; false and 0 do."""
    if isinstance(value, str):
        return bool(value) and not value.isspace()
    return value is not None and not (isinstance(value, Sequence | Mapping) and not value)


def _is_turn(value: Any) -> bool:
    return is_table(value) and ("role" in value or "from" in value)
