"""pydantic's errors in words: what is wrong, where in the recipe, and the nearest right spelling."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from fttool.contracts.recipe import Recipe
from fttool.contracts.strategy import Strategy
from fttool.described import descriptions
from fttool.errors import Problem, did_you_mean
from fttool.plain import is_array, is_table
from fttool.recipe import toml
from fttool.recipe.closed import family_at
from fttool.recipe.overrides import Key, RawRecipe


def explain(raw: RawRecipe, invalid: ValidationError, kind: type[Recipe]) -> list[Problem]:
    """All problems of a recipe that is not of the type `kind`, each with its place."""
    errors = [dict(error) for error in invalid.errors(include_url=False)]
    errors = _one_a_value(raw, [error for error in errors if not _follows(error, errors)])
    return [_problem(raw, error, kind) for error in errors]


def without_tags(data: Any, location: Sequence[str | int]) -> Key:
    """pydantic's error location without the union tags it inserts: (schedule, wsd, warmup) → (schedule, warmup)."""
    key: list[str | int] = []
    for place, part in enumerate(location, start=1):
        if is_table(data):
            if part not in data and (data.get("name") == part or place < len(location)):
                continue  # a strategy's name; or a table as a kind of value
            data = data.get(str(part))
        elif is_array(data) and isinstance(part, int) and part < len(data):
            data = data[part]
        elif isinstance(data, str) and part == data:
            data = {"name": data}  # the string stands for a strategy's table
            continue
        elif data is not None:
            continue  # a kind of value, of several that an option may have; or what a source's string stands for
        key.append(part)
    return tuple(key)


def _follows(error: dict[str, Any], errors: Sequence[dict[str, Any]]) -> bool:
    """True for a list that counts as too short only because an entry of it is wrong."""
    inside = error["loc"]
    return error["type"] == "too_short" and any(
        other["loc"][: len(inside)] == inside for other in errors if other is not error
    )


def _one_a_value(raw: RawRecipe, errors: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Where an option may be of several kinds, pydantic has an error for each of them: they become one."""
    by_key: dict[Key, dict[str, Any]] = {}
    for error in errors:
        key = without_tags(raw.data, error["loc"])
        alternative = error["msg"].removeprefix("Input should be ")
        if alternative == error["msg"]:
            by_key[error["loc"]] = error
        elif key in by_key:
            by_key[key]["msg"] += f", or {alternative}"
        else:
            by_key[key] = error
    return list(by_key.values())


def _problem(raw: RawRecipe, error: dict[str, Any], kind: type[Recipe]) -> Problem:
    """A pydantic error in words, located."""
    key = without_tags(raw.data, error["loc"])
    name = ".".join(str(part) for part in key)
    context: dict[str, Any] = error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            return Problem(f"unknown key '{name}'", raw.where(key), _unknown_hint(kind, raw.data, key), key)
        case "missing":
            return Problem(f"'{name}' is missing", raw.where(key[:-1]), _missing_hint(key), key)
        case "union_tag_invalid":
            tags = [tag.strip(" '") for tag in str(context["expected_tags"]).split(",")]
            wrong = str(context["tag"])
            near = did_you_mean(wrong, tags)
            hint = f"{near}{' ' if near.endswith('?') else '; '}`fttool plugins` lists them all"
            return Problem(f"unknown strategy '{wrong}' for {name}", raw.where((*key, "name")), hint, key)
        case "union_tag_not_found":
            return Problem(f"'{name}' does not say which strategy", raw.where(key), _missing_hint((*key, "name")), key)
        case "model_type" | "model_attributes_type":
            place = "{…}" if isinstance(key[-1], int) else f"[{name}]"
            return Problem(f"'{name}' must be a table", raw.where(key), f"write {place} with its keys", key)
        case "tuple_type":
            hint = f"tables are written under [[{name}]], values as {key[-1]} = […]"
            if isinstance(error.get("input"), str | int | float):
                hint = f"write {key[-1]} = {toml.format_value([error['input']])}"
            return Problem(f"'{name}' must be a list", raw.where(key), hint, key)
        case _:
            given = error.get("input")
            shown = f", got {toml.format_value(given)}" if isinstance(given, str | int | float | bool) else ""
            said = str(error["msg"]).removeprefix("Value error, ")
            message = f"{name}: {said[:1].lower()}{said[1:]}{shown}"
            hint = _near_literal(error) or _value_hint(kind, raw.data, key)
            if error["type"] == "value_error":  # it has its own words
                hint = ""
            return Problem(message, raw.where(key), hint, key)


def _near_literal(error: Mapping[str, Any]) -> str:
    """The word that was meant, of those that an option takes; empty where none is near."""
    given, known = error.get("input"), re.findall(r"'([^']*)'", str(error.get("ctx", {}).get("expected", "")))
    near = did_you_mean(given, known) if isinstance(given, str) else ""
    return near if near.endswith("?") else ""


def _missing_hint(key: Key) -> str:
    if key == ("recipe",):
        return "begin the recipe with: recipe = 1"
    if key and key[-1] == "name":
        family = family_at(key[:-1])
        if family:
            usual = family.place.default
            return f'add: name = "{usual}"' if usual else "add its name; `fttool plugins` has those that exist"
    return "add it; `fttool schema` has all keys, `fttool init` an example"


def _value_hint(kind: type[Recipe], data: Any, key: Key) -> str:
    """What the option at `key`, or the one that holds it, is: the first sentence of its own words, and its default."""
    for place in reversed(range(len(key))):
        name, table = str(key[place]), key[:place]
        for option in _chosen(_tables_at(kind, table), data, table):
            if name not in option.model_fields:
                continue
            field = option.model_fields[name]
            text = " ".join(descriptions(option).get(name, name).split()).partition(". ")[0].rstrip(".")
            shown = isinstance(field.default, str | int | float | bool)
            usual = f" (default: {toml.format_value(field.default)})" if shown else ""
            return f"{name} is: {text[:1].lower()}{text[1:]}{usual}"
    return ""


def _unknown_hint(kind: type[Recipe], data: Any, key: Key) -> str:
    """The nearest key that may stand there, after the strategies that do have an option of this name."""
    word, tables = str(key[-1]), _tables_at(kind, key[:-1])
    chosen = _chosen(tables, data, key[:-1])
    owners = sorted({f"'{_id(table)}'" for table in tables if table not in chosen and word in table.model_fields})
    known = sorted({name for table in chosen for name in table.model_fields})
    near = did_you_mean(word, known)
    return f"that is an option of {', '.join(owners)}. {near}" if owners else near


def _tables_at(kind: type[Recipe], key: Key) -> list[type[BaseModel]]:
    """The tables and strategies that may stand at `key`."""

    def models(annotation: Any) -> Iterable[type[BaseModel]]:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield annotation
        for argument in get_args(annotation):
            yield from models(argument)

    tables: list[type[BaseModel]] = [kind]
    for part in key:
        if not isinstance(part, int):
            fields = [table.model_fields[part] for table in tables if part in table.model_fields]
            tables = [table for field in fields for table in models(field.annotation)]
    return tables


def _chosen(tables: list[type[BaseModel]], data: Any, key: Key) -> list[type[BaseModel]]:
    """Those of the tables that may stand at `key` that the data has chosen there: a strategy by its name."""
    for part in key:
        data = data[part]
    return [table for table in tables if _id(table) == data.get("name")] or tables


def _id(table: type[BaseModel]) -> Any:
    """The id of a strategy; None for a table."""
    return table.id() if issubclass(table, Strategy) else None
