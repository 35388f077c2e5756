"""What TOML and JSON hold, told apart: tables, arrays, and what stands in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard


def is_table(value: object) -> TypeGuard[Mapping[str, Any]]:
    """True for a table of TOML or an object of JSON, whose keys are text."""
    return isinstance(value, Mapping)


def is_array(value: object) -> TypeGuard[list[Any] | tuple[Any, ...]]:
    """True for an array; pydantic makes tuples of them."""
    return isinstance(value, list | tuple)


def children(value: object) -> Iterable[tuple[str | int, Any]]:
    """The keys or places of a table or array, with what stands there; nothing for anything else."""
    if is_table(value):
        yield from value.items()
    elif is_array(value):
        yield from enumerate(value)
