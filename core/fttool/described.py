"""Options that say what they are in the docstring under them; the source is read once somebody asks, for it takes long.

pydantic's `use_attribute_docstrings` reads it whenever a class is made, which was half of what `fttool validate` took.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema


class Described(BaseModel):
    """A table of options, closed and immutable; its JSON schema describes each by the docstring under it."""

    # Most strategies are listed, or stand where a recipe names another one: a validator is made at its first use.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler, /) -> JsonSchemaValue:
        generated = handler(schema)
        properties: dict[str, dict[str, Any]] = handler.resolve_ref_schema(generated).get("properties", {})
        for name, text in descriptions(cls).items():
            if name in properties:
                properties[name].setdefault("description", text)
        return generated


def descriptions(table: type[BaseModel]) -> dict[str, str]:
    """Option → what it is: its own `Field(description=…)`, or the docstring under it in the class that has it last."""
    texts = attribute_docstrings(table)
    given = {name: field.description for name, field in table.model_fields.items() if field.description}
    return {name: text for name, text in (texts | given).items() if name in table.model_fields}


def attribute_docstrings(made: type) -> dict[str, str]:
    """Attribute of a class → the docstring under it, in the class of its ancestry that has it last."""
    texts: dict[str, str] = {}
    for kind in reversed(made.__mro__):
        texts |= _docstrings(kind.__module__).get(kind.__qualname__, {})
    return texts


@cache
def _docstrings(module: str) -> Mapping[str, Mapping[str, str]]:
    """Qualified name of each class of a module → attribute → the docstring under it; empty where there is no source."""
    try:
        source = inspect.getsource(sys.modules[module])
    except (KeyError, OSError, TypeError):
        return {}
    return dict(_of_classes(ast.parse(source), ""))


def _of_classes(node: ast.AST, prefix: str) -> Iterator[tuple[str, dict[str, str]]]:
    # Statements alone: a walk over every expression takes longer than parsing did.
    for child in [*getattr(node, "body", ()), *getattr(node, "orelse", ())]:
        if isinstance(child, ast.ClassDef):
            name = f"{prefix}{child.name}"
            yield name, dict(_under_attributes(child))
            yield from _of_classes(child, f"{name}.")
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _of_classes(child, f"{prefix}{child.name}.<locals>.")
        else:
            yield from _of_classes(child, prefix)


def _under_attributes(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for statement, below in zip(node.body, node.body[1:], strict=False):
        match statement, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                yield name, inspect.cleandoc(text)
            case _:
                continue
