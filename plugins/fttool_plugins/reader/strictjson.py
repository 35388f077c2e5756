"""JSON without what Python's reader lets through: NaN, numbers beyond floats, keys twice, lone surrogates.

RFC 8259 leaves such texts to chance; in training data they are mistakes.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, cast

_BLANK = re.compile(r"[ \t\r\n]*")
"""JSON's own white space (RFC 8259, section 2)."""
_PART_OF_A_WORD = re.compile(r"[-+.\w\\]*")
"""What is left of a number, a literal or an escape where a text is cut off in it."""
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class RefusedError(ValueError):
    """JSON that is well formed and not accepted, or no object; the message is a sentence."""


def decode(text: str, start: int) -> tuple[dict[str, Any], int]:
    """The object that starts at `start` exactly, and where it ends.

    Raises:
        json.JSONDecodeError: where it is broken or incomplete.
        RefusedError: where it is well formed, and still wrong.
    """
    try:
        row, end = _DECODER.raw_decode(text, start)
        if isinstance(row, dict) and _SURROGATE.search(text, start, end):
            json.dumps(row, ensure_ascii=False).encode()
    except (json.JSONDecodeError, RefusedError):
        raise
    except RecursionError:
        raise RefusedError("the row is nested too deeply") from None
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):04x}"
        raise RefusedError(f"{half} is half a character (a lone surrogate)") from None
    except ValueError as error:  # int() refuses thousands of digits
        raise RefusedError(f"a number is too long: {error}") from None
    if not isinstance(row, dict):
        raise RefusedError(f"a row must be an object like {{…}}, this is {_kind(row)}")
    return cast("dict[str, Any]", row), end


def in_string(error: json.JSONDecodeError) -> bool:
    """Whether the text ends inside a string."""
    return error.msg.startswith("Unterminated string")


def looks_cut(error: json.JSONDecodeError) -> bool:
    """Whether JSON is broken only because its text ends too early."""
    before, rest = error.doc[: error.pos], error.doc[error.pos :].rstrip()
    if in_string(error):
        return not rest.endswith(("}", "]"))  # else it is the quote that is missing
    return bool(before.strip() and _PART_OF_A_WORD.fullmatch(rest))


def after_blank(text: str, start: int = 0) -> int:
    """Where the white space at `start` ends."""
    match = _BLANK.match(text, start)
    return match.end() if match else start


def describe(message: str, text: str, pos: int, column: int) -> tuple[str, str]:
    """What to say of JSON that is broken at `pos`, and what to do: (message, hint)."""
    character = text[pos : pos + 1]
    message = re.sub(r"( starting)? at$|:? *$", "", message[:1].lower() + message[1:], count=1)
    hint = "fix or delete it"
    if character == "\0":
        message, hint = "a NUL character", "a crash while a file is written leaves these: write it again"
    elif character == "'":
        hint = "strings need double quotes: write rows with json.dumps, not with print or str"
    elif not text[pos:].strip():
        hint = "the line ends too early; a row may not span lines, except in a JSON array"
    before, after = _printable(text[max(0, pos - 30) : pos]), _printable(text[pos : pos + 30])
    near = f"at '{after}' after '{before}'" if after else f"after '{before}'"
    return f"broken JSON at column {column}: {message}, {near}", hint


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))
        raise RefusedError(f"the key '{_printable(twice[:60])}' occurs twice in one object")
    return row


def _constant(name: str) -> float:
    raise RefusedError(f"{name} is not a JSON value")


def _float(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise RefusedError(f"the number {digits[:60]} is too large")
    return number


_DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_constant, parse_float=_float)


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return "a string" if isinstance(value, str) else "an array" if isinstance(value, list) else "a number"


def _printable(text: str) -> str:
    """Text that does nothing to a terminal and stays on its line."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
