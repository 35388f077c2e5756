"""What conversations hold beside their words, in one form: tools, the calls of a turn and their arguments.

A table gives each of its rows every key that any of them has, with null where there was none, and JSON text where
values are of several shapes. A chat template writes what it is given, so two forms would be taught, and nulls that
nobody wrote. Here JSON text is decoded, and keys with null are dropped, in a text too: nobody can tell those that a
table has put there from those that were meant. A list keeps its nulls.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any


def without_nulls(value: Any) -> Any:
    """The value as plain objects and lists, without the keys of objects that have null; a list keeps its nulls."""
    if isinstance(value, str):  # most are, and a look at the class of mappings takes as long as all else
        return value
    if isinstance(value, Mapping):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [without_nulls(item) for item in value]
    return value


def read_variables(value: Any, column: str) -> dict[str, Any]:
    """Variables for a chat template: an object, or JSON text of one; raises `ValueError` for anything else."""
    variables = _decoded(value, f"'{column}'") if isinstance(value, str) and value.strip() else without_nulls(value)
    if variables and not isinstance(variables, dict):
        raise ValueError(f"'{column}' must be an object, this is {type(variables).__name__}")
    return variables or {}


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
    read = [
        _decoded(tool, f"tool {number} of 'tools'") if isinstance(tool, str) else tool
        for number, tool in enumerate(tools, 1)
    ]
    for number, tool in enumerate(read, 1):
        if not isinstance(tool, dict):
            raise ValueError(f"tool {number} of 'tools' must be an object, this is {type(tool).__name__}")
    return read


def read_calls(value: Any, where: str) -> list[dict[str, Any]]:
    """The calls of a turn, the arguments of each as an object; raises `ValueError` where they have another shape."""
    calls = _decoded(value, f"'tool_calls' of {where}") if isinstance(value, str) else without_nulls(value)
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        raise ValueError(f"'tool_calls' of {where} must be a list of objects")
    return [_read_call(call, f"call {number} of {where}") for number, call in enumerate(calls, 1)]


def _read_call(call: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A call with its arguments as an object, an empty one where it has none."""
    if isinstance(call.get("function"), Mapping):
        return {**call, "function": _read_call(call["function"], where)}
    given = call.get("arguments")
    if isinstance(given, str):
        given = _decoded(given, f"'arguments' of {where}") if given.strip() else {}
    if given is not None and not isinstance(given, dict):
        raise ValueError(f"'arguments' of {where} must be an object, this is {type(given).__name__}")
    return {**call, "arguments": given or {}}


def _decoded(text: str, what: str) -> Any:
    """What a JSON text says, without the nulls of its objects."""
    try:
        value = json.loads(text, object_pairs_hook=_once, parse_constant=_refuse)
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError(f"{what} is JSON text with half a character in it (a lone surrogate)") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{what} is text, and not JSON: {error}") from None
    return without_nulls(value)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        ((twice, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key '{twice[:60]}' occurs twice in one object")
    return table


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not a number of JSON")
