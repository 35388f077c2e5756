"""What TOML and JSON hold, told apart: tables, arrays, and what stands in them."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
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


def as_json(value: object) -> Any:
    """What JSON can hold of a value: NaN and infinity become the strings `nan`, `inf` and `-inf`, never 0 or null."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if is_table(value):
        return {str(key): as_json(item) for key, item in value.items()}
    if is_array(value):
        return [as_json(item) for item in value]
    return value


def as_row(value: Any) -> Any:
    """A value out of a table in columns as a row of JSON has it: dates and times as ISO 8601, decimals and durations as
    text, bytes in base64.

    Fields without a value are left out: a schema gives every row all fields of all, so there a null is an absent key.
    """
    if is_table(value):
        return {key: as_row(field) for key, field in value.items() if field is not None}
    if is_array(value):
        return [as_row(entry) for entry in value]
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return str(value) if isinstance(value, Decimal | timedelta) else value
