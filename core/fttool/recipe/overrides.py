"""A recipe on its way to being valid: its data, where each key was written, the command line's `--set`, and what the
task fills in where both are silent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from fttool.contracts.strategy import Strategy
from fttool.errors import RecipeError
from fttool.plain import children, is_array, is_table
from fttool.recipe import toml
from fttool.recipe.closed import expand, family_at, holds_list

Key = tuple[str | int, ...]
"""Path of a recipe key, e.g. `("data", "train", 0, "format")`."""

LENGTHS: tuple[Key, Key] = (("run", "epochs"), ("run", "max_steps"))
"""Two ways to say how long a run is; setting one takes the place of the other."""


@dataclass
class RawRecipe:
    """A recipe on its way to being valid: data, and where each key was written."""

    path: Path
    document: toml.Document
    data: dict[str, Any]
    overridden: dict[Key, str] = field(default_factory=dict[Key, str])
    dropped: list[str] = field(default_factory=list[str])
    defaults: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """The task's, by dotted key."""

    def default(self, family: type[Strategy]) -> dict[str, Any]:
        """The table that stands at a family's place where the recipe is silent; empty where it holds a list."""
        place = family.place
        value = self.defaults.get(place.table, place.default)
        if value is None or place.many:
            return {}
        return _copy(value) if is_table(value) else expand(family, value)

    def where(self, key: Key) -> str:
        """`file:line:column` of the nearest enclosing key, or `--set key` where an override wrote it."""
        for end in range(len(key), 0, -1):
            if key[:end] in self.overridden:
                return f"--set {self.overridden[key[:end]]}"
        if not self.document.places:  # it was given as data, and nobody has seen it as text
            return "recipe" + "".join(f"[{json.dumps(part, ensure_ascii=False)}]" for part in key)
        place = self.document.place(key)
        return f"{self.path}:{place.line}:{place.column}"


def read_raw(
    path: Path,
    overrides: Sequence[str],
    task_defaults: Callable[[Mapping[str, Any]], Mapping[str, Any]],
    data: Mapping[str, Any] | None = None,
) -> RawRecipe:
    """The file's data, or the given data in its place, with the overrides applied in their order, filled with what
    `task_defaults` says of it.

    Raises `RecipeError`.
    """
    document = toml.read(path) if data is None else toml.of_data(data)
    raw = RawRecipe(path, document, _copy(document.data))
    # The task comes first: its defaults depend on it, and the other overrides may name an option of such a default.
    of_task = [override for override in overrides if re.match(r"\s*task\s*[.=]", override)]
    for override in of_task:
        _apply(raw, override)
    raw.defaults = task_defaults(raw.data)
    for override in overrides:
        if override not in of_task:
            _apply(raw, override)
    for dotted, value in raw.defaults.items():
        _fill(raw, raw.data, dotted.split("."), value)
    _name_tables(raw, raw.data)
    return raw


def _name_tables(raw: RawRecipe, value: Any, key: Key = ()) -> None:
    """A strategy's table without a `name` is that of the family's default strategy."""
    family = family_at(key)
    if is_table(value) and family is not None and "name" in (usual := raw.default(family)):
        cast("dict[str, Any]", value).setdefault("name", usual["name"])
    for name, child in children(value):
        _name_tables(raw, child, (*key, name))


def _fill(raw: RawRecipe, target: Any, parts: Sequence[str], value: Any, key: Key = ()) -> None:
    """Write a default where the recipe is silent; what is of the wrong type is left for validation to name."""
    part, *rest = parts
    if part == "*":
        for name, listed in children(target):
            for index, entry in enumerate(listed if is_array(listed) else ()):
                _fill(raw, entry, rest, value, (*key, name, index))
    elif is_table(target):
        table = cast("dict[str, Any]", target)
        here = (*key, part)
        family = family_at(here)
        other = LENGTHS[1 - LENGTHS.index(here)][-1] if here in LENGTHS else None
        if not rest and other not in table:  # a task's epochs beside the recipe's max_steps would contradict it
            table.setdefault(part, _copy(value))
        elif rest:
            if part not in table:
                table[part] = raw.default(family) if family else {}
            if isinstance(table[part], str) and family:
                table[part] = expand(family, table[part])
            _fill(raw, table[part], rest, value, here)


def _copy(value: Any) -> Any:
    if is_table(value):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if is_array(value) else value


def _apply(raw: RawRecipe, override: str) -> None:
    """Apply one `key.path=value` of the command line."""
    dotted, equals, text = override.partition("=")
    dotted = dotted.strip()
    if not equals or not re.fullmatch(r"[A-Za-z_][\w-]*(\.[\w-]+)*", dotted):
        raise RecipeError(
            f"--set {override!r} is not an override",
            hint="write --set key.path=value, e.g. --set run.max_steps=50",
        )
    key: Key = tuple(int(part) if part.isdigit() else part for part in dotted.split("."))
    value = toml.parse_value(text)
    target: Any = raw.data
    for depth in range(1, len(key)):
        target = _entered(raw, target, key[:depth], dotted)
    last = key[-1]
    _check_entry(target, key, dotted)
    # What the table holds are options of another strategy: kept, they would be refused one by one beside the new name.
    if last == "name" and family_at(key[:-1]) and target.get("name") != value:
        _drop(raw, target, override, f"resets [{'.'.join(map(str, key[:-1]))}]")
        target.clear()
    if key in LENGTHS:
        other = LENGTHS[1 - LENGTHS.index(key)][-1]
        gone = {str(other): target.pop(other)} if other in target else {}
        _drop(raw, gone, override, f"takes the place of run.{other}")
    target[last] = [value] if isinstance(value, str) and holds_list(key) else value
    raw.overridden[key] = dotted


def _entered(raw: RawRecipe, target: Any, key: Key, dotted: str) -> Any:
    """One key deeper, making tables on the way, a family's with its default; a string becomes the table it means."""
    _check_entry(target, key, dotted)
    part, family = key[-1], family_at(key)
    if isinstance(part, str) and part not in target:
        target[part] = raw.default(family) if family else {}
    if isinstance(target[part], str) and family:
        target[part] = expand(family, target[part])
    return target[part]


def _check_entry(target: Any, key: Key, dotted: str) -> None:
    """Refuse a key that cannot stand in `target`: a list has numbers up to its end, a table has names."""
    part, around = key[-1], ".".join(map(str, key[:-1]))
    if is_array(target):
        if not isinstance(part, int) or part >= len(target):
            hint = f"it has {len(target)}, counted from 0"
            raise RecipeError(f"--set {dotted}: {around} has no entry {part}", hint=hint)
    elif isinstance(part, int):
        raise RecipeError(f"--set {dotted}: the recipe has no list {around}", hint=f"--set '{around}=[…]' makes one")
    elif not is_table(target):
        raise RecipeError(f"--set {dotted}: {around} is a value, not a table", hint="name one of the recipe's tables")


def _drop(raw: RawRecipe, gone: Mapping[str, Any], override: str, why: str) -> None:
    """Note what an override makes go away, beside a strategy's name."""
    options = ", ".join(f"{name} = {toml.format_value(value)}" for name, value in gone.items() if name != "name")
    if options:
        raw.dropped.append(f"--set {override} {why}; dropped: {options}")
