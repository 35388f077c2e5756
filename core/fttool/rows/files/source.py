"""Rows by what a path is: a folder of text files, or a file of rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fttool.contracts.recipe import UTF8
from fttool.errors import DataError, Problem
from fttool.rows.files import reader
from fttool.rows.files.file import steady
from fttool.rows.files.folder import folder_fingerprint, folder_rows, steady_folder


def read_rows(
    path: Path, encodings: Sequence[str] = UTF8, took: Counter[str] | None = None
) -> Generator[tuple[str, Mapping[str, Any]]]:
    """Yield (origin, row): `file:line` of a file of rows, the file of a folder. Only a folder's files may be in
    another encoding than UTF-8; `took` counts how many each one read.

    Raises:
        DataError: while iterating, for a path that cannot be read and the first row that is broken.
    """
    if path.is_dir():
        counts = Counter[str]() if took is None else took
        for file, row in folder_rows(path, encodings, reader.MAX_ROW_BYTES, counts):
            yield str(file), row
        return
    if tuple(encodings) != UTF8 and path.exists():
        hint = "leave encodings out; a file of rows is in UTF-8"
        raise DataError(Problem("encodings are for a folder of text files, and this is a file", str(path), hint))
    for line, row in reader.read_file(path):
        yield f"{path}:{line}", row


@contextmanager
def unchanged(path: Path) -> Generator[None]:
    """Around the reading of rows and of their fingerprint: raises `DataError` where the path changes meanwhile."""
    with steady_folder(path) if path.is_dir() else steady(path):
        yield


def fingerprint(path: Path) -> Mapping[str, str | int]:
    """What `lock.json` notes of the rows: `sha256` and `bytes`, and of a folder its `files`."""
    return folder_fingerprint(path) if path.is_dir() else reader.fingerprint(path)
