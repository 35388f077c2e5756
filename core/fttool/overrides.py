"""A recipe on its way to being valid: its data, where each key was written, and the command line's `--set`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fttool import toml
from fttool.errors import RecipeError
from fttool.families import FAMILIES

Key = tuple[str | int, ...]
"""Path of a recipe key, e.g. `("data", "train", 0, "format")`."""


@dataclass
class RawRecipe:
    """A recipe on its way to being valid: data, and where each key was written."""

    path: Path
    document: toml.Document
    data: dict[str, Any]
    overridden: dict[Key, str] = field(default_factory=dict[Key, str])
    dropped: list[str] = field(default_factory=list[str])

    def where(self, key: Key) -> str:
        """`file:line:column` of the nearest enclosing key, or `--set key` where an override wrote it."""
        for end in range(len(key), 0, -1):
            if key[:end] in self.overridden:
                return f"--set {self.overridden[key[:end]]}"
        place = self.document.place(key)
        return f"{self.path}:{place.line}:{place.column}"


def read_raw(path: Path, overrides: Sequence[str]) -> RawRecipe:
    """The file's data with the overrides applied in their order; raises `RecipeError`."""
    document = toml.read(path)
    raw = RawRecipe(path, document, _copy(document.data))
    for override in overrides:
        _apply(raw, override)
    return raw


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value


def _apply(raw: RawRecipe, override: str) -> None:
    """Apply one `key.path=value` of the command line."""
    dotted, equals, text = override.partition("=")
    dotted = dotted.strip()
    if not equals or not re.fullmatch(r"[A-Za-z_][\w-]*(\.[\w-]+)*", dotted):
        raise RecipeError(
            f"--set {override!r} is no override",
            hint="write --set key.path=value, e.g. --set schedule.name=wsd",
        )
    key: Key = tuple(int(part) if part.isdigit() else part for part in dotted.split("."))
    value = toml.parse_value(text)
    target: Any = raw.data
    for index, part in enumerate(key[:-1]):
        target = _step(raw, target, key[: index + 1], part, dotted)
    last = key[-1]
    if last == "name" and isinstance(target, dict) and len(key) > 1 and key[0] != "run":
        gone = [name for name in target if name != "name"]
        if gone and target.get("name") != value:
            options = ", ".join(f"{name} = {toml.format_value(target[name])}" for name in gone)
            raw.dropped.append(f"--set {dotted}={text} resets [{'.'.join(map(str, key[:-1]))}]; dropped: {options}")
        if target.get("name") != value:
            target.clear()
    if isinstance(target, list):
        if not isinstance(last, int) or last >= len(target):
            raise RecipeError(f"--set {dotted}: the list has {len(target)} entries", hint="count from 0")
        target[last] = value
    elif isinstance(target, dict):
        target[str(last)] = value
    else:
        raise RecipeError(f"--set {dotted}: {'.'.join(map(str, key[:-1]))} is a value, not a table")
    raw.overridden[key] = dotted


def _step(raw: RawRecipe, target: Any, key: Key, part: str | int, dotted: str) -> Any:
    """Descend one key, making tables on the way, a family's with its default strategy; a string becomes its table."""
    if isinstance(target, list):
        if not isinstance(part, int) or part >= len(target):
            raise RecipeError(f"--set {dotted}: the list has {len(target)} entries", hint="count from 0")
        container: Any = target
        index: Any = part
    elif isinstance(target, dict):
        default = next((family.default for family in FAMILIES if family.table == dotted.rpartition(".")[0]), None)
        if str(part) not in target:
            target[str(part)] = {"name": default} if default and len(key) == 1 else {}
        container, index = target, str(part)
    else:
        raise RecipeError(f"--set {dotted}: {'.'.join(map(str, key[:-1]))} is a value, not a table")
    if isinstance(container[index], str):
        container[index] = {"name": container[index]}
    return container[index]
