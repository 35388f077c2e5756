"""The reader for most: by what a path is, by a file's first bytes, and by its name."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from typing_extensions import override

from fttool.api import RawRows, Reader, ReaderContext, RowSource, packed_suffix
from fttool_plugins.reader.arrow import FILE, Arrow, is_saved
from fttool_plugins.reader.conll import Conll
from fttool_plugins.reader.csv_rows import Csv
from fttool_plugins.reader.folder import Folder
from fttool_plugins.reader.json_rows import Json
from fttool_plugins.reader.parquet import Parquet
from fttool_plugins.reader.text import TextLines

BY_BYTES: dict[bytes, type[Reader]] = {b"PAR1": Parquet, FILE: Arrow, b"\xff\xff\xff\xff": Arrow}
"""Readers of files that are told by their first bytes, whatever they are called."""
BY_NAME = (Csv, Conll, TextLines)
"""Readers of files that only their names tell; anything else is read as JSON, or refused by that."""


class Auto(Reader):
    """The reader that fits: Parquet and Arrow by a file's first bytes; tables, words in columns and text by its name
    (`.csv`, `.tsv`, `.conll` …, `.txt`, `.md`), also where it is packed (`.csv.gz`); any other file as JSON. A folder
    is read as one of text files, or as what `Dataset.save_to_disk` wrote.
    """

    name: Literal["auto"] = "auto"

    @override
    def build(self, ctx: ReaderContext) -> RowSource:
        def rows(path: Path) -> RawRows:
            return fitting(path).build(ctx)(path)

        return rows


def fitting(path: Path) -> Reader:
    """The reader of a path, with its default options."""
    if path.is_dir():
        return Arrow() if is_saved(path) else Folder()
    first = _first_bytes(path)
    by_bytes = next((reader for magic, reader in BY_BYTES.items() if first.startswith(magic)), None)
    suffix = packed_suffix(path)
    return (by_bytes or next((reader for reader in BY_NAME if suffix in reader.suffixes), Json))()


def _first_bytes(path: Path) -> bytes:
    try:
        if not path.is_file():  # to open a pipe would wait for somebody who writes
            return b""
        with path.open("rb") as file:
            return file.read(max(map(len, BY_BYTES)))
    except (OSError, ValueError):  # the reader says why it cannot be opened
        return b""
