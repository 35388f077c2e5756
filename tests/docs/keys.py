"""The keys of a recipe as pages quote them (`optimizer.lr`, `schedule.name = "wsd"`), held to the recipe's schema."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

import jsonschema

from fttool.cli.schema import recipe_schema

SCHEMA = recipe_schema(builtin_only=True)


def branches(part: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A schema, or each of those that it is a union of; of a list, those of its entries."""
    if "$ref" in part:
        yield from branches(SCHEMA["$defs"][part["$ref"].rpartition("/")[2]])
        return
    for union in ("anyOf", "oneOf"):
        for one in part.get(union, ()):
            yield from branches(one)
    if "items" in part:
        yield from branches(part["items"])
    yield part


def places(key: str) -> list[dict[str, Any]]:
    """What the recipe's schema has under a dotted key, in any strategy."""
    found = [SCHEMA]
    for name in key.split("."):
        tables = [one for part in found for one in branches(part)]
        found = [one["properties"][name] for one in tables if name in one.get("properties", {})]
    return found


def wrong(setting: str) -> bool:
    """Whether `key` or `key = value` is not one of a recipe."""
    key, _, value = setting.partition(" = ")
    found = places(key)
    if not value:
        return not found
    given = tomllib.loads(f"x = {value}")["x"]
    schemas = [{**part, "$defs": SCHEMA["$defs"]} for part in found]
    return not any(jsonschema.Draft202012Validator(schema).is_valid(given) for schema in schemas)
