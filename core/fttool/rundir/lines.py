"""Files of JSON lines that only grow and outlive crashes: what one has cut off is found, said, glued to nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fttool.disk import write_atomically, writing
from fttool.plain import is_table

DAMAGED = ".damaged"
"""Ending of the file to which `mend` moves lines that cannot be read."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a file, without its line break."""

    number: int
    """From 1."""
    content: bytes
    values: Mapping[str, Any] | None
    """What it says; None where that cannot be read."""


def append(file: Path, values: Mapping[str, Any], *, flushed: bool = False) -> None:
    """Add a line, whole or not at all; it is on disk where it is `flushed`. Raises `DiskError`.

    Where a crash has left half a line at the end, the new one still begins on a line of its own.
    """
    text = json.dumps(values, ensure_ascii=False).encode("utf-8") + b"\n"
    with writing(file, needed=len(text)), file.open("a+b") as open_file:
        end = open_file.seek(0, os.SEEK_END)
        if end:
            open_file.seek(end - 1)
            text = text if open_file.read(1) == b"\n" else b"\n" + text
        try:
            open_file.write(text)
            open_file.flush()
            if flushed:
                os.fsync(open_file.fileno())
        except OSError:
            with suppress(OSError):  # half a line; what is wrong is being said
                os.truncate(file, end)
            raise


def read(file: Path, needed: str) -> list[Line]:
    """All lines of a file; one says something where it is an object with the key `needed`. Empty without a file."""
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return []
    lines = content.split(b"\n")
    complete, rest = lines[:-1], lines[-1]
    parsed = [Line(number, line, _said(line, needed)) for number, line in enumerate(complete, 1)]
    return parsed + ([Line(len(lines), rest, None)] if rest else [])  # a line that is whole ends in a line break


def write(file: Path, lines: Iterable[Line]) -> None:
    """Replace a file by these lines."""
    write_atomically(file, b"".join(line.content + b"\n" for line in lines).decode("utf-8"))


def mend(file: Path, needed: str) -> list[str]:
    """Move the lines that cannot be read into a file beside it; a sentence that says so, if there were any."""
    lines = read(file, needed)
    bad = [line for line in lines if line.values is None]
    if not bad:
        return []
    beside = file.with_name(file.name + DAMAGED)
    with writing(beside), beside.open("ab") as damaged:
        damaged.writelines(line.content + b"\n" for line in bad)
    write(file, (line for line in lines if line.values is not None))
    numbers = ", ".join(str(line.number) for line in bad[:5]) + (f" and {len(bad) - 5} more" if len(bad) > 5 else "")
    which = f"line {numbers} of '{file}' is" if len(bad) == 1 else f"lines {numbers} of '{file}' are"
    return [f"{which} damaged, as a crash leaves one: moved to {beside.name}"]


def _said(line: bytes, needed: str) -> Mapping[str, Any] | None:
    try:
        values: Any = json.loads(line)
    except ValueError:
        return None
    return values if is_table(values) and needed in values else None
