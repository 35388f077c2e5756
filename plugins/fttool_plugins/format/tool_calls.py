"""What conversations hold beside their words, in one form: tools, the calls of a turn and their arguments.

A table gives each of its rows every key that any of them has, with null where there was none, and JSON text where
values are of several shapes. A chat template writes what it is given, so two forms would be taught, and nulls that
nobody wrote. Here nulls are dropped and JSON text is decoded; what stands in such a text, a null too, is the author's
own and stays.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def without_nulls(value: Any) -> Any:
    """The value as plain objects and lists, without the keys of objects that have null; a list keeps its nulls."""
    if isinstance(value, Mapping):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [without_nulls(item) for item in value]
    return value


def read_tools(value: Any) -> list[Any]:
    """The tools that a row offers: a list, JSON text of one, or a list of JSON texts; empty where there are none.

    Raises:
        ValueError: where they have another shape.
    """
    tools = _decoded(value, "'tools'") if isinstance(value, str) and value.strip() else without_nulls(value)
    if not tools:
        return []
    if not isinstance(tools, list):
        raise ValueError(f"'tools' must be a list, this is {type(tools).__name__}")
    return [
        _decoded(tool, f"tool {number} of 'tools'") if isinstance(tool, str) else tool
        for number, tool in enumerate(tools, 1)
    ]


def read_calls(value: Any, where: str) -> list[dict[str, Any]]:
    """The calls of a turn, the arguments of each as an object; raises `ValueError` where they have another shape."""
    calls = _decoded(value, f"'tool_calls' of {where}") if isinstance(value, str) else without_nulls(value)
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        raise ValueError(f"'tool_calls' of {where} must be a list of objects")
    return [_read_call(call, f"call {number} of {where}") for number, call in enumerate(calls, 1)]


def _read_call(call: Mapping[str, Any], where: str) -> dict[str, Any]:
    if isinstance(call.get("function"), Mapping):
        return {**call, "function": _read_call(call["function"], where)}
    if isinstance(call.get("arguments"), str):
        given = call["arguments"].strip()
        arguments = _decoded(given, f"'arguments' of {where}") if given else {}
        if not isinstance(arguments, dict):
            raise ValueError(f"'arguments' of {where} must be an object, this is {type(arguments).__name__}")
        return {**call, "arguments": arguments}
    return dict(call)


def _decoded(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{what} is text, and not JSON: {error}") from None
