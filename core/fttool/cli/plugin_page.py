"""What a strategy is, on one page, made from its own docstrings and schema: `fttool plugins show`."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from fttool.contracts.rows import Reader
from fttool.contracts.strategy import Strategy
from fttool.plain import is_table
from fttool.plugins import Plugins
from fttool.recipe.toml import format_value

Schema = Mapping[str, Any]


def page(strategy: type[Strategy], plugins: Plugins) -> str:
    """The whole page as text."""
    schema = strategy.model_json_schema()
    definitions: Schema = schema.get("$defs", {})
    options = {name: option for name, option in schema["properties"].items() if name != "name"}
    required = set(schema.get("required", ()))
    name = strategy.id().partition(".")[0] if "." in strategy.id() else strategy.family
    entry = plugins.entry(name)
    lines = [
        f"{strategy.family}.{strategy.id()}",
        f"from {entry.distribution} {entry.version}, {strategy.__module__}",
        "",
        inspect.cleandoc(strategy.__doc__ or ""),
        "",
        "options" if options else "no options",
    ]
    for key, option in options.items():
        given = "required" if key in required else _default(option)
        lines += [f"  {key:<16} {kind(option, definitions)}; {given}"]
        lines += [textwrap.indent(inspect.cleandoc(option.get("description", "")), "      ")]
    brought = getattr(strategy, "defaults", {})
    if brought:
        lines += ["", "sets, unless the recipe does"]
        lines += [f"  {key} = {format_value(value)}" for key, value in brought.items()]
    lines += ["", "in a recipe", textwrap.indent(example(strategy), "  ")]
    return "\n".join(lines)


def _default(option: Schema) -> str:
    default = option.get("default")
    return f"default {format_value(default)}" if default is not None else "not set by default"


# -- types in words ------------------------------------------------------------------------------------------------


def _items(option: Schema) -> Schema:
    """The schema of an array's entries; of the first where each has its own."""
    items: Schema = option.get("items", {})
    each: list[Schema] = option.get("prefixItems", [items])
    return items or each[0]


def kind(option: Schema, definitions: Schema) -> str:
    """An option's type in words, from its JSON Schema: `number, 0 to 1`, `"linear" or "cosine"`, `list of text` …"""
    if "$ref" in option:
        return kind(definitions[option["$ref"].rpartition("/")[2]], definitions)
    if "const" in option:
        return format_value(option["const"])
    if "enum" in option:
        return " or ".join(format_value(value) for value in option["enum"])
    for union in ("anyOf", "oneOf"):
        if union in option:
            kinds = [
                kind(alternative, definitions) for alternative in option[union] if alternative.get("type") != "null"
            ]
            return " or ".join(dict.fromkeys(kinds))
    match option.get("type"):
        case "array":
            inner = _items(option)
            size = f"{option['minItems']} × " if option.get("minItems") == option.get("maxItems", -1) else ""
            return f"list of {size}{kind(inner, definitions)}"
        case "object":
            inner = option.get("additionalProperties")
            return f"table of {kind(inner, definitions)}" if is_table(inner) else "table"
        case "boolean":
            return "true or false"
        case "string":
            return f"text like {option['pattern']}" if "pattern" in option else "text"
        case "integer" | "number" as number:
            return ", ".join(["whole number" if number == "integer" else "number", *_bounds(option)])
        case _:
            return "anything"


def _bounds(option: Schema) -> Iterator[str]:
    low, high = option.get("minimum"), option.get("maximum")
    if low is not None and high is not None:
        yield f"{_number(low)} to {_number(high)}"
    else:
        words = {"minimum": "at least", "maximum": "at most"}
        yield from (f"{word} {_number(option[key])}" for key, word in words.items() if key in option)
    words = {"exclusiveMinimum": "above", "exclusiveMaximum": "below"}
    yield from (f"{word} {_number(option[key])}" for key, word in words.items() if key in option)


def _number(value: float) -> str:
    """A bound with all of its digits: 2³² is not 4.29497e+09."""
    return f"{int(value):,}" if value == int(value) else f"{value:g}"


# -- an example ----------------------------------------------------------------------------------------------------


def example(strategy: type[Strategy]) -> str:
    """A piece of recipe with the strategy and all of its options, at their defaults where they have one."""
    schema = strategy.model_json_schema()
    values = {"name": strategy.id()}
    for key, option in schema["properties"].items():
        value = option.get("default", None)
        if key in schema.get("required", ()) and key != "name":
            value = _placeholder(option, schema.get("$defs", {}))
        if value is not None and key != "name":
            values[key] = value
    return _placed(strategy, values)


def _placed(strategy: type[Strategy], values: Mapping[str, Any]) -> str:
    """`values` where the strategy's family stands: in a table of its own, or as the value of a key."""
    place = strategy.place
    table, dot, key = place.table.rpartition(".")
    if not dot:
        header = f"[[{place.table}]]" if place.many else f"[{place.table}]"
        return "\n".join([header, *(f"{name} = {format_value(value)}" for name, value in values.items())])
    short = values["name"] if len(values) == 1 else None
    if strategy.family == "model" and set(values) == {"name", "path"}:
        short = f"{values['name']}:{values['path']}"
    value = format_value(short or values)
    if table == "data.*":
        suffixes = strategy.suffixes if issubclass(strategy, Reader) else (".jsonl",)
        return f'[[data.train]]\npath = "rows{"".join(suffixes[:1])}"\n{key} = {value}'
    return f"[{table}]\n{key} = {f'[{value}]' if place.many else value}"


def _placeholder(option: Schema, definitions: Schema) -> Any:
    """A value for an option that must be given: the first of its `examples`, or the plainest of its type."""
    if option.get("examples"):
        return option["examples"][0]
    if "$ref" in option:
        return _placeholder(definitions[option["$ref"].rpartition("/")[2]], definitions)
    if "enum" in option:
        return option["enum"][0]
    for union in ("anyOf", "oneOf"):
        if union in option:
            return _placeholder(option[union][0], definitions)
    match option.get("type"):
        case "array":
            return [_placeholder(_items(option), definitions)]
        case "object":
            return {}
        case "boolean":
            return True
        case "integer":
            return option.get("minimum", option.get("exclusiveMinimum", 0) + 1)
        case "number":
            return option.get("minimum", option.get("exclusiveMinimum", 0.0) + 0.1)
        case _:
            return "…"
