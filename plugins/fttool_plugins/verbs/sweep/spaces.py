"""What is searched: for each key of the recipe a range of numbers, or a list of values, as `--over` takes them.

optimizer.lr=1e-6..1e-4:log     any number between, evenly on a logarithmic scale
optimizer.lr=1e-6..1e-4:log:5   five of them
freezing.rank=4..64             any integer between
freezing=full,gradual,lora      one of these values
freezing=full,{name="lora",rank=8}
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import tomli

from fttool.api import Problem, UsageError
from fttool.verbs import format_value

Value: TypeAlias = Any
"""Of a recipe's key, as TOML has it."""

KEY = re.compile(r"[A-Za-z_][\w-]*(\.[\w-]+)*")
NUMBER = r"[+-]?\d[\d_]*(?:\.\d+)?(?:[eE][+-]?\d+)?"
RANGE = re.compile(rf"({NUMBER})\.\.({NUMBER})((?::\w+)*)")
EXAMPLE = "e.g. --over optimizer.lr=1e-6..1e-4:log --over freezing=full,lora"
OPENING, CLOSING = "[{", "]}"


@dataclass(frozen=True, slots=True)
class Range:
    """Any number between two."""

    key: str
    low: float
    high: float
    log: bool
    whole: bool
    """Integers only."""

    @property
    def tried(self) -> tuple[Value, ...]:
        """The values that stand for all others where the space is checked: both ends."""
        return (self.low, self.high)

    def __str__(self) -> str:
        return f"{self.key}={self.low:g}..{self.high:g}{':log' if self.log else ''}"


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several values."""

    key: str
    values: tuple[Value, ...]

    @property
    def tried(self) -> tuple[Value, ...]:
        """All of them."""
        return self.values

    @property
    def texts(self) -> tuple[str, ...]:
        """The values as one writes them in a recipe, by which a study tells them apart."""
        return tuple(map(format_value, self.values))

    def __str__(self) -> str:
        return f"{self.key}={','.join(self.texts)}"


Space: TypeAlias = Range | Choice


def read_spaces(texts: Sequence[str]) -> list[Space]:
    """The spaces of a command line, parents before their options; `UsageError` with everything that is wrong."""
    spaces: list[Space] = []
    problems: list[Problem] = []
    for text in texts:
        try:
            spaces.append(_read(text))
        except UsageError as wrong:
            problems += wrong.problems
    keys = [space.key for space in spaces]
    problems += [
        Problem(f"--over {key} is given twice", hint="join what it is to be: --over KEY=A,B")
        for key in dict.fromkeys(keys)
        if keys.count(key) > 1
    ]
    if problems:
        raise UsageError(problems)
    return sorted(spaces, key=lambda space: space.key.removesuffix(".name").count("."))


def _read(text: str) -> Space:
    key, equals, rest = (part.strip() for part in text.partition("="))
    if not equals or not KEY.fullmatch(key):
        raise UsageError(f"--over {text!r} does not say which key is to be what", hint=EXAMPLE)
    if found := RANGE.fullmatch(rest):
        return _range(text, key, found)
    if ".." in rest and not any(mark in rest for mark in "\"'{["):
        raise UsageError(f"--over {text!r} is not a range", hint="LOW..HIGH, LOW..HIGH:log, LOW..HIGH:5 (values)")
    values = [_value(part) for part in _split(text, rest)]
    return _choice(text, key, values)


def _choice(text: str, key: str, values: Sequence[Value]) -> Choice:
    written = [format_value(value) for value in values]
    if len(set(written)) < len(written):
        raise UsageError(f"--over {text!r} has a value twice", hint="each of them once")
    if len(values) < 2:
        raise UsageError(f"--over {text!r} leaves nothing to choose", hint=f"one value is for --set {key}=…")
    return Choice(key, tuple(values))


def _range(text: str, key: str, found: re.Match[str]) -> Space:
    low, high, options = _value(found[1]), _value(found[2]), found[3].split(":")[1:]
    log = "log" in options
    counts = [int(option) for option in options if option.isdigit()]
    unknown = [option for option in options if option != "log" and not option.isdigit()]
    if unknown or len(counts) > 1:
        hint = "known: :log, and :N for N values"
        raise UsageError(f"--over {text!r}: ':{(unknown or options)[0]}' is unknown", hint=hint)
    if not (isinstance(low, int | float) and isinstance(high, int | float) and low < high):
        raise UsageError(f"--over {text!r} does not go up", hint="write LOW..HIGH")
    if log and low <= 0:
        raise UsageError(f"--over {text!r}: a logarithmic range begins above 0", hint="leave out :log, or begin higher")
    whole = isinstance(low, int) and isinstance(high, int)
    if not counts:
        return Range(key, low, high, log, whole)
    if counts[0] < 2:
        raise UsageError(f"--over {text!r} leaves nothing to choose", hint="two values or more: :2")
    values = (_point(low, high, at / (counts[0] - 1), log=log) for at in range(counts[0]))
    points = dict.fromkeys(round(value) if whole else float(f"{value:.6g}") for value in values)
    return _choice(text, key, list(points))


def _point(low: float, high: float, share: float, *, log: bool) -> float:
    return low * (high / low) ** share if log else low + (high - low) * share


def _split(text: str, rest: str) -> Iterator[str]:
    """What stands between the commas that are in no brackets and no quotes."""
    part, depth, quote = "", 0, ""
    for sign in rest:
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "\"'":
            quote = sign
        elif sign in OPENING + CLOSING:
            depth += 1 if sign in OPENING else -1
        elif sign == "," and not depth:
            yield _filled(text, part)
            part = ""
            continue
        part += sign
    yield _filled(text, part)


def _filled(text: str, part: str) -> str:
    if not part.strip():
        raise UsageError(f"--over {text!r} has an empty value", hint=EXAMPLE)
    return part.strip()


def _value(text: str) -> Value:
    """The TOML value that a text is, else the text itself, as `--set` has it."""
    try:
        read = tomli.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return read["value"] if len(read) == 1 else text
