"""What a reader makes of a file, by the lines that its rows start on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fttool.contracts.rows import Reader
from fttool.rows.files.source import read_rows


def numbered(path: Path, reader: Reader | None = None) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield (line, row); without a `reader` by the one that a recipe has which names none."""
    for origin, row in read_rows(path, reader):
        place, _, line = origin.rpartition(":")
        assert place == str(path)
        yield int(line), row
