"""Where each key of a TOML text stands.

tomli keeps no positions, so this walks the text once more for the keys alone. It runs over text that tomli
has accepted (or over the part before a refusal), so it need not know what a value means, only where it ends:
one pass, linear in the length of the text.

Grammar: https://toml.io/en/v1.1.0
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple, TypeAlias

import tomli

Path: TypeAlias = tuple[str | int, ...]
"""Of a key: names of tables and keys, and indices into arrays."""
Kind: TypeAlias = Literal["implied", "value", "table", "array", "element"]
"""How a key came to be. `implied`: a table that only stands in the path of another key; `array`, `element`:
the list that `[[…]]` makes, and one table of it."""

_GAP = re.compile(r"(?:[ \t\n]+|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^,\]}#\n]*")
_STRING_ENDS = (
    # By opening quotes, the longest first. Group 1 is the end, with the up to two quotes that belong inside.
    ('"""', re.compile(r'\\.|("{3,5})', re.DOTALL)),
    ("'''", re.compile(r"('{3,5})")),
    ('"', re.compile(r'\\.|(")', re.DOTALL)),
    ("'", re.compile(r"(')")),
)


class Key(NamedTuple):
    """One occurrence of a key."""

    path: Path
    offset: int
    """Of the key's name; of the value, for an element of an array."""
    kind: Kind


class ScanError(Exception):
    """From here on the text is not TOML."""

    def __init__(self, opened: int | None = None) -> None:
        """`opened`: offset of the bracket or quote that is not closed, where that is the reason."""
        super().__init__(opened)
        self.opened = opened


class Scanner:
    """Notes each key of a TOML text in `keys`, in the order of the text.

    Raises:
        ScanError: from any method, where the text is not TOML; `keys` has what came before.
    """

    def __init__(self, text: str) -> None:
        """`text` has `\\n` for newlines."""
        self.text = text
        self.pos = 0
        self.keys: list[Key] = []
        self._elements: dict[Path, int] = {}
        """Tables so far of each `[[array]]`."""

    def document(self) -> None:
        """Walk over the whole text."""
        table: Path = ()
        while char := self._peek(_GAP):
            if char == "[":
                table = self._header()
            else:
                self._pair(table)

    def value(self, path: Path) -> None:
        """Walk over one value, noting the keys and elements in it."""
        char = self._peek()
        if char == "[":
            self._array(path)
        elif char == "{":
            self._inline_table(path)
        elif char in ("'", '"'):
            self._string()
        else:
            self._peek(_SCALAR)

    def _header(self) -> Path:
        """`[a.b]` or `[[a.b]]`: its path, in which an array of tables stands for its last table so far."""
        start = self.pos
        array = self.text.startswith("[[", start)
        self.pos += 2 if array else 1
        names = self._names()
        path: Path = ()
        for name, offset in names[:-1]:
            path += (name,)
            self._note(path, offset, "implied")
            if path in self._elements:
                path += (self._elements[path] - 1,)
        name, offset = names[-1]
        path += (name,)
        self._note(path, offset, "array" if array else "table")
        if array:
            index = self._elements.get(path, 0)
            self._elements[path] = index + 1
            path += (index,)
            self._note(path, offset, "element")
        if not self.text.startswith("]]" if array else "]", self.pos):
            raise ScanError(start)
        self.pos += 2 if array else 1
        return path

    def _pair(self, path: Path) -> None:
        """`a.b = value`."""
        names = self._names()
        for name, offset in names[:-1]:
            path += (name,)
            self._note(path, offset, "implied")
        name, offset = names[-1]
        path += (name,)
        self._note(path, offset, "value")
        if self._peek() != "=":
            raise ScanError
        self.pos += 1
        self._peek(_SPACE)
        self.value(path)

    def _names(self) -> list[tuple[str, int]]:
        """A dotted key: each part and its offset."""
        names: list[tuple[str, int]] = []
        while True:
            self._peek(_SPACE)
            start = self.pos
            names.append((self._name(), start))
            if self._peek(_SPACE) != ".":
                return names
            self.pos += 1

    def _name(self) -> str:
        start = self.pos
        if self._peek() not in ("'", '"'):
            bare = _BARE_KEY.match(self.text, start)
            if not bare:
                raise ScanError
            self.pos = bare.end()
            return bare[0]
        self._string()
        token = self.text[start : self.pos]
        if token[0] == '"' and "\\" in token:
            return tomli.loads(f"name = {token}")["name"]
        return token[1:-1]

    def _array(self, path: Path) -> None:
        for index, _ in enumerate(self._items("]")):
            self._note((*path, index), self.pos, "value")
            self.value((*path, index))

    def _inline_table(self, path: Path) -> None:
        for _ in self._items("}"):
            self._pair(path)

    def _items(self, closing: str) -> Iterator[None]:
        """Stop at the start of each item between brackets, and at last after the closing one."""
        start = self.pos
        self.pos += 1
        while (char := self._peek(_GAP)) != closing:
            if not char:
                raise ScanError(start)
            yield
            if self._peek(_GAP) == ",":
                self.pos += 1
            elif self._peek() != closing:
                raise ScanError(start)
        self.pos += 1

    def _string(self) -> None:
        start = self.pos
        opening, end = next(pair for pair in _STRING_ENDS if self.text.startswith(pair[0], start))
        for match in end.finditer(self.text, start + len(opening)):
            if match[1]:
                self.pos = match.end()
                return
        raise ScanError(start)

    def _peek(self, skip: re.Pattern[str] | None = None) -> str:
        """The next character, after skipping what `skip` matches; empty at the end of the text."""
        if skip:
            match = skip.match(self.text, self.pos)
            self.pos = match.end() if match else self.pos
        return self.text[self.pos : self.pos + 1]

    def _note(self, path: Path, offset: int, kind: Kind) -> None:
        self.keys.append(Key(path, offset, kind))
