"""TOML that knows where each key stands, so that a mistake in a recipe is reported at its line and column.

tomli reads and judges the text; `tomlscan` finds the keys in it.
"""

from __future__ import annotations

import bisect
import codecs
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, cast

import tomli
import tomli_w

from fttool.errors import RecipeError
from fttool.recipe import tomlscan
from fttool.textfile import convert_hint, foreign_encoding, obstacle, unreadable

MAX_RECIPE_BYTES = 4 * 1024 * 1024
"""A larger file is not a recipe: a data or model file named by mistake is not read to its end."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands in a text."""

    line: int
    """From 1."""
    column: int
    """In characters, from 1."""

    def __str__(self) -> str:
        return f"{self.line}:{self.column}"


@dataclass(frozen=True)
class Document:
    """A parsed text and the places of its keys."""

    data: dict[str, Any]
    text: str
    """As given; `read` takes off a byte-order mark."""
    places: Mapping[tuple[str | int, ...], Place]
    """Of each key its name, of each element of an array its start, of each `[[table]]` its header's name."""

    def place(self, key: Sequence[str | int]) -> Place:
        """Where `key` stands, or the nearest key around it; the text's start where there is none."""
        for length in range(len(key), 0, -1):
            place = self.places.get(tuple(key[:length]))
            if place:
                return place
        return Place(1, 1)


class TomlError(Exception):
    """The text is not TOML, or defines a key twice."""

    def __init__(self, message: str, line: int, column: int, hint: str = "") -> None:
        super().__init__(f"{message} (line {line}, column {column})")
        self.message = message
        self.line = line
        self.column = column
        self.hint = hint


def parse(text: str) -> Document:
    """Parse TOML and locate its keys.

    Raises:
        TomlError: for a syntax error, or for a key that is defined twice.
    """
    unix = text.replace("\r\n", "\n")  # as tomli does; no line or column moves by it
    lines = _Lines(unix)
    scanner = tomlscan.Scanner(unix)
    try:
        data = tomli.loads(unix)
        scanner.document()
    except tomli.TOMLDecodeError as error:
        raise _explain(error, unix, lines) from None
    except RecursionError:
        raise TomlError("arrays or tables are nested too deeply", *lines.at(_longest(r"[\[{.]+", unix))) from None
    except ValueError as error:  # int() refuses thousands of digits, and tomli lets that through
        raise TomlError(f"this number is too long: {error}", *lines.at(_longest(r"\d+", unix))) from None
    places: dict[tomlscan.Path, Place] = {}
    for key in scanner.keys:
        if key.kind != "implied" or key.path not in places:
            places[key.path] = Place(*lines.at(key.offset))
    return Document(data, text, places)


def read(path: Path) -> Document:
    """Read a recipe file, in UTF-8 with or without a byte-order mark.

    Raises:
        RecipeError: located at `path` or `path:line:column`, for a file that is missing, a folder, empty, in
            another encoding or not TOML.
    """
    try:
        document = parse(_text(path))
    except TomlError as error:
        where = f"{path}:{error.line}:{error.column}"
        hint = error.hint or "fix this line; `fttool init` writes a recipe to compare with"
        raise RecipeError(error.message, where=where, hint=hint) from None
    if not document.data:
        hint = "it needs at least [model] source and [[data.train]] path"
        raise RecipeError("the recipe is empty", where=str(path), hint=hint)
    return document


def of_data(data: Mapping[str, Any]) -> Document:
    """A document of data that was never a text; its own is what TOML makes of it, and None is left out.

    Raises:
        RecipeError: for what TOML has no words for.
    """

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            items = cast("Mapping[Any, Any]", value).items()
            return {str(key): plain(item) for key, item in items if item is not None}
        if isinstance(value, list | tuple):
            return [plain(item) for item in cast("Sequence[Any]", value)]
        return str(value) if isinstance(value, PurePath) else value

    content = plain(data)
    try:
        return Document(content, tomli_w.dumps(content), {})
    except (TypeError, ValueError) as wrong:
        hint = "a recipe holds text, numbers, true and false, lists and tables"
        raise RecipeError(f"the recipe's data is not TOML: {wrong}", hint=hint) from None


def parse_value(text: str) -> Any:
    """The TOML value that `text` is (`0.1`, `true`, `[1, 2]`, `{name = "wsd"}` …), else `text` itself."""
    stripped = text.strip()
    scanner = tomlscan.Scanner(stripped)
    try:
        value = tomli.loads(f"value = {stripped}")["value"]
        scanner.value(())
    except (ValueError, RecursionError):
        return text
    return value if scanner.pos == len(stripped) else text  # a comment or further keys: not one value


def format_value(value: Any) -> str:
    """A value as one writes it after `key = `, on one line."""
    if isinstance(value, Mapping):
        items = cast("Mapping[str, Any]", value).items()
        return "{" + ", ".join(f"{_format_key(key)} = {format_value(item)}" for key, item in items) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(format_value(item) for item in cast("Sequence[Any]", value)) + "]"
    return tomli_w.dumps({"value": value}).removeprefix("value = ").rstrip("\n")


def _format_key(key: str) -> str:
    return tomli_w.dumps({key: 0}).removesuffix(" = 0\n")


def _text(path: Path) -> str:
    """The file's text, or a `RecipeError` that says why there is none."""
    problem = obstacle(path)
    if problem:
        raise RecipeError(problem)
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_RECIPE_BYTES + 1)
    except OSError as error:
        raise RecipeError(unreadable(path, error)) from None
    if len(raw) > MAX_RECIPE_BYTES:
        message = f"over {MAX_RECIPE_BYTES // 1024**2} MiB, too large for a recipe"
        raise RecipeError(message, where=str(path), hint="name the recipe's TOML file")
    encoding = foreign_encoding(raw)
    if encoding:
        message = f"the recipe is in {encoding}, not in UTF-8"
        raise RecipeError(message, where=str(path), hint=convert_hint(path, encoding))
    raw = raw.removeprefix(codecs.BOM_UTF8)
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        good = raw[: error.start].decode()
        line, column = good.count("\n") + 1, len(good) - good.rfind("\n")
        message = f"byte 0x{raw[error.start]:02x} is not UTF-8"
        hint = convert_hint(path, "WINDOWS-1252")
        raise RecipeError(message, where=f"{path}:{line}:{column}", hint=hint) from None


class _Lines:
    """From offsets in a text to lines and columns."""

    def __init__(self, text: str) -> None:
        self._starts = [0, *(match.end() for match in re.finditer("\n", text))]

    def at(self, offset: int) -> tuple[int, int]:
        line = bisect.bisect_right(self._starts, offset)
        return line, offset - self._starts[line - 1] + 1


# -- what to say of a refusal ------------------------------------------------------------------------------


def _explain(error: tomli.TOMLDecodeError, text: str, lines: _Lines) -> TomlError:
    """Add to tomli's refusal where a key stands first, where a bracket opens, or what to write instead."""
    pos = min(error.pos, len(text))  # tomli points past the end where a text ends in a backslash
    scanner = tomlscan.Scanner(text[:pos])
    opened = None
    try:
        scanner.document()
    except tomlscan.ScanError as lost:
        opened = lost.opened
    except RecursionError:
        opened = scanner.pos
    twice = _twice(scanner.keys)
    if twice:
        first, second = twice
        fault = "is already a value, not a table" if second.kind == "implied" else "is defined twice"
        there = "line {}, column {}".format(*lines.at(first.offset))
        message = f"'{'.'.join(map(str, second.path))}' {fault}; it is first defined at {there}"
        return TomlError(message, *lines.at(second.offset), "keep one of them")
    hint = _advice(text, pos)
    if not hint and opened is not None:
        hint = "what opens at line {}, column {} is not closed".format(*lines.at(opened))
    message = f"this is not TOML: {error.msg[:1].lower()}{error.msg[1:]}"
    return TomlError(message, *lines.at(pos), hint)


_COMPATIBLE = {
    ("implied", "implied"),
    ("implied", "table"),
    ("table", "implied"),
    ("array", "implied"),
    ("array", "array"),
}
"""How a key may appear first and again: `[a.b]` and then `[a]`, but `[a]` only once."""


def _twice(keys: Sequence[tomlscan.Key]) -> tuple[tomlscan.Key, tomlscan.Key] | None:
    """The first key that claims what an earlier one has: (the earlier, the later)."""
    seen: dict[tomlscan.Path, tomlscan.Key] = {}
    for key in keys:
        first = seen.setdefault(key.path, key)
        if first is not key and (first.kind, key.kind) not in _COMPATIBLE:
            return first, key
        if key.kind == "table":
            seen[key.path] = key
    return None


def _advice(text: str, pos: int) -> str:
    """What to type instead, for the slips of people who come from JSON, YAML or Python."""
    before = text[:pos].rstrip(" \t\n")
    word = re.match(r"[^\s,\]}#=]+", text[pos:])
    if text.startswith(":", pos):
        return "TOML sets a key with '=', not with ':'"
    if not before and text.startswith("{", pos):
        return "this looks like JSON; a recipe is TOML, one 'key = value' a line"
    if not word or before[-1:] not in ("=", ",", "["):
        return ""
    if word[0] in ("True", "False"):
        return f"TOML writes {word[0].lower()}"
    if word[0] in ("None", "null", "nil"):
        return "TOML has no null: leave the key out"
    return f'text needs quotes: "{word[0]}"' if word[0][0].isalpha() else ""


def _longest(pattern: str, text: str) -> int:
    """Offset of the longest match."""
    return max(re.finditer(pattern, text), key=lambda match: len(match[0])).start()
