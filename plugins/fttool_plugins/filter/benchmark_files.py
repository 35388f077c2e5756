"""Texts of a benchmark's file: of JSON every text in it, of anything else every line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fttool.api import DataError, Problem
from fttool_plugins.filter.parts import texts


def benchmark_texts(file: Path) -> Iterator[tuple[int, str]]:
    """Line and text; of a file that is one JSON value the line is the entry's number. Raises `DataError`."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(Problem(f"'{file}' cannot be read: {error}", hint="name a text file in UTF-8")) from None
    if file.suffix == ".json":
        entries = _parsed("\n".join(lines), file, 1)
        for number, entry in enumerate(entries if isinstance(entries, list) else [entries], start=1):  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
            yield from ((number, text) for text in texts(entry))
    else:
        for number, line in enumerate(lines, start=1):
            if file.suffix in (".jsonl", ".ndjson"):
                yield from ((number, text) for text in texts(_parsed(line, file, number) if line.strip() else ""))
            else:
                yield number, line


def _parsed(text: str, file: Path, line: int) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise DataError(
            Problem(f"{file}:{line} is not JSON: {error}", hint="name a .txt file for plain text")
        ) from None
