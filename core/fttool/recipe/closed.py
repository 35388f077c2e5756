"""The recipe type closed over the installed strategies, so that a wrong id answers with the ids that exist."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any, Union, cast, get_args, get_origin

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, create_model
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from fttool.contracts import FAMILIES
from fttool.contracts.model import ModelSource
from fttool.contracts.recipe import DataTable, EvaluationTable, ModelTable, Recipe, RowsTable, Table
from fttool.contracts.strategy import Strategy
from fttool.plain import is_array, is_table


def family_at(key: Sequence[str | int]) -> type[Strategy] | None:
    """The family whose strategies stand at a key such as `("data", "train", 0, "format")` or `("filters", 1)`."""
    parts = [part for part in key if isinstance(part, str)]
    for family in FAMILIES.values():
        table = family.place.table.split(".")
        if len(table) == len(parts) and all(name in ("*", part) for name, part in zip(table, parts, strict=True)):
            return family
    return None


def holds_list(key: Sequence[str | int]) -> bool:
    """True for a key such as `("tracking", "to")`, whose value is a list whatever is installed."""
    table: Any = Recipe
    many = False
    for part in key:
        if isinstance(part, int):
            many = False
            continue
        field = getattr(table, "model_fields", {}).get(part)
        if field is None:
            return False
        many = get_origin(field.annotation) is tuple
        table = get_args(field.annotation)[0] if many else field.annotation
    return many


def expand(family: type[Strategy], text: str) -> dict[str, Any]:
    """The table that a string stands for: `{name = "…"}`.

    For the model family it is `scheme:path`, or a path or hub id alone for the default source.
    """
    if family is not ModelSource:
        return {"name": text}
    scheme, colon, path = text.partition(":")
    if colon and len(scheme) > 1:  # a single letter is a Windows drive
        return {"name": scheme, "path": path}
    return {"name": family.place.default, "path": text}


class _Union:
    """A strategy's place in a recipe: a table that is told from the others by its `name`, or a string for one."""

    def __init__(self, family: type[Strategy], strategies: tuple[type[Strategy], ...]) -> None:
        self.family = family
        self.strategies = {strategy.id(): strategy for strategy in strategies}

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        # Not Field(discriminator=…), which wants a union of at least two.
        # Each validates itself: pydantic then makes validators of those alone that a recipe names.
        choices: dict[Any, CoreSchema] = {
            name: core_schema.no_info_plain_validator_function(strategy.model_validate)
            for name, strategy in self.strategies.items()
        }
        tagged = core_schema.tagged_union_schema(choices, discriminator="name")
        return core_schema.no_info_before_validator_function(
            lambda value: expand(self.family, value) if isinstance(value, str) else value,
            tagged,
            serialization=core_schema.simple_ser_schema("any"),  # each knows itself, and a union would look for it
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        if self.family is ModelSource:
            schemes = "|".join(re.escape(scheme) for scheme in self.strategies)
            text = {"type": "string", "pattern": rf"^(({schemes}):.*|[A-Za-z]:.*|[^:]+)$"}
        else:
            required = {
                name: any(f.is_required() for f in s.model_fields.values()) for name, s in self.strategies.items()
            }
            text = {"enum": [name for name, needs_more in required.items() if not needs_more]}
        for strategy in self.strategies.values():
            strategy.model_rebuild()
        choices = {name: strategy.__pydantic_core_schema__ for name, strategy in self.strategies.items()}
        return {"anyOf": [handler(core_schema.tagged_union_schema(choices, discriminator="name")), text]}


def recipe_type(strategies: Callable[[str], tuple[type[Strategy], ...]]) -> type[Recipe]:
    """The recipe with every strategy's place narrowed to a union of `strategies(family)`."""
    return _recipe_over(tuple(map(strategies, FAMILIES)))


@lru_cache(maxsize=8)  # pydantic takes as long to make one as a small run takes to train
def _recipe_over(strategies: tuple[tuple[type[Strategy], ...], ...]) -> type[Recipe]:
    """The recipe over the strategies of each family, in the order of `FAMILIES`."""
    places: dict[str, Any] = {}
    defaults: dict[str, Any] = {}
    for (name, family), classes in zip(FAMILIES.items(), strategies, strict=True):
        union = Union[classes] if classes else None  # noqa: UP007 - built at run time
        places[name] = Annotated[union, _Union(family, classes)] if classes else family
        defaults[name] = next((c for c in classes if c.id() == family.place.default), None)

    def default(family: str) -> dict[str, Any]:
        """The default strategy of a family; none, so that the recipe must say, where that one is switched off."""
        return {"default_factory": defaults[family]} if defaults[family] else {}

    def table(base: type[Table], **fields: tuple[Any, dict[str, Any]]) -> type[Any]:
        """`base` with some fields narrowed."""
        narrowed: dict[str, Any] = {name: (kind, Field(**options)) for name, (kind, options) in fields.items()}
        return create_model(base.__name__, __base__=base, __doc__=base.__doc__, **narrowed)

    of_rows = [name for name, family in FAMILIES.items() if family.place.table.startswith("data.*.")]
    rows = table(RowsTable, **{name: (places[name], default(name)) for name in of_rows})
    others: dict[str, Any] = {part: (tuple[rows, ...], {"default": ()}) for part in ("eval", "general", "retention")}
    data = table(DataTable, train=(tuple[rows, ...], {"min_length": 1}), **others)
    model = table(ModelTable, source=(places["model"], {}))
    many: dict[str, Any] = {name: tuple[places[name], ...] for name, family in FAMILIES.items() if family.place.many}
    metrics = (defaults["metric"](),) if defaults["metric"] else ()
    evaluation = table(EvaluationTable, metrics=(many["metric"], {"default": metrics}))
    single = {
        family.place.table: (places[name], default(name))
        for name, family in FAMILIES.items()
        if family.place.table in Recipe.model_fields and not family.place.many
    }
    return cast(
        "type[Recipe]",
        table(
            Recipe,
            **single,
            model=(model, {}),
            data=(data, {}),
            filters=(many["filter"], {"default": ()}),
            regularizers=(many["regularizer"], {"default": ()}),
            evaluation=(evaluation, {"default_factory": evaluation}),
        ),
    )


def named_plugins(data: Mapping[str, Any]) -> set[str]:
    """Prefixes of all strategy ids in a raw recipe: the third-party plugins that it needs, and no others."""
    names: set[str] = set()
    for value in _raw_strategies(data):
        name = value.get("name") if is_table(value) else value
        if isinstance(name, str):
            scheme = name.partition(":")[0]
            if re.fullmatch(r"[A-Za-z0-9_-]+\.[a-z0-9-]+", scheme):
                names.add(scheme.partition(".")[0])
    return names


def _raw_strategies(data: Mapping[str, Any]) -> Iterable[Any]:
    """Whatever stands in the raw recipe where a strategy can stand."""
    for family in FAMILIES.values():
        values: list[Any] = [data]
        for key in family.place.table.split("."):
            values = [
                child
                for value in values
                if is_table(value)
                for child in (value.values() if key == "*" else [value.get(key)])
            ]
            values = [item for value in values for item in (value if is_array(value) else [value])]
        if family is ModelSource:  # a path such as model.gguf is not an id: only "acme.store:path" is
            values = [value for value in values if not isinstance(value, str) or ":" in value]
        yield from values
