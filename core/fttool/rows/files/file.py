"""A file of rows while it is read: opened, unpacked, unchanged to its end, and able to say where it broke."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from fttool.errors import DataError
from fttool.textfile import convert_hint, foreign_encoding, obstacle, unreadable

CHUNK = 1 << 16
"""Bytes read in one go."""

_GZIP_MAGIC = b"\x1f\x8b"
_TABLE = "write its rows as JSON lines, e.g. with pandas: {reader}(…).to_json(…, orient='records', lines=True)"
_ARROW = "write its rows as JSON lines, e.g. with datasets: Dataset.from_file(…).to_json(…)"
_PACKED = "unpack it: {command}; or pack it with gzip, which is read as it is"
_FOREIGN_FILES = (
    (b"PAR1", "a Parquet file", _TABLE.format(reader="read_parquet")),
    (b"ARROW1", "an Arrow file", _TABLE.format(reader="read_feather")),
    (b"\xff\xff\xff\xff", "an Arrow stream", _ARROW),
    (b"PK\x03\x04", "a zip archive", "unpack it: unzip; a spreadsheet: save it as .csv"),
    (b"BZh", "a bzip2 file", _PACKED.format(command="bunzip2 -k")),
    (b"\xfd7zXZ\x00", "an xz file", _PACKED.format(command="unxz -k")),
    (b"%PDF", "a PDF", "write its texts as JSON lines, or as text files in a folder"),
    (b"\x28\xb5\x2f\xfd", "packed with zstd", _PACKED.format(command="zstd -d")),
)
"""The first bytes of other kinds of files, what they are, and what to do."""


@dataclass
class RowFile:
    """A file being read, and how far the reading is."""

    path: Path
    stream: io.BufferedReader
    """Unpacked."""
    packed: bool
    line: int = 0
    """Where the row that is being read starts, from 1."""
    rows: int = 0
    """Handed out so far, all good."""

    def error(self, message: str, hint: str, line: int | None = None) -> DataError:
        """A problem at a line, by default where the row starts; it tells how many rows were good."""
        good = "no row" if not self.rows else "1 row" if self.rows == 1 else f"{self.rows:,} rows"
        line = self.line if line is None else line
        where = f"{self.path}:{line}" if line else str(self.path)
        return DataError(message, where=where, hint=f"{hint} ({good} before it read well)")

    def not_utf8(self, byte: int, line: int, column: int) -> DataError:
        """A byte that stands where UTF-8 allows none."""
        message = f"byte 0x{byte:02x} at column {column} is not UTF-8"
        return self.error(message, self._convert_hint("WINDOWS-1252"), line)

    def refuse_foreign(self, head: bytes) -> None:
        """Raise a `DataError` where the first bytes show another kind of file, or another encoding."""
        where = str(self.path)
        for magic, kind, hint in _FOREIGN_FILES:
            if head.startswith(magic):
                raise DataError(f"this is {kind}, not JSON lines", where=where, hint=hint)
        encoding = foreign_encoding(head)
        if encoding:
            hint = self._convert_hint(encoding)
            raise DataError(f"the file is in {encoding}, not in UTF-8", where=where, hint=hint)

    def _convert_hint(self, encoding: str) -> str:
        if self.packed:
            return f"unpack it and save it as UTF-8 (now: {encoding})"
        return convert_hint(self.path, encoding)


@contextmanager
def opened(path: Path) -> Generator[RowFile]:
    """The unpacked file.

    Raises:
        DataError: as `steady` does, and for a compressed file that is cut off or damaged.
    """
    with steady(path) as file:
        magic = file.read(len(_GZIP_MAGIC))
        file.seek(0)
        unpacked: Any = file
        if magic == _GZIP_MAGIC:
            unpacked = gzip.GzipFile(fileobj=file)
        rows = RowFile(path, io.BufferedReader(unpacked, CHUNK), packed=unpacked is not file)
        again = "copy or download it again"
        try:
            yield rows
        except EOFError:
            raise rows.error("the compressed file is cut off", again) from None
        except (zlib.error, gzip.BadGzipFile) as error:
            raise rows.error(f"the compressed file is damaged: {error}", again) from None


@contextmanager
def steady(path: Path) -> Generator[BinaryIO]:
    """The file as it lies on disk. It must not change: one that is being written has no hash, no last row.

    Raises:
        DataError: for a file that is missing, a folder, unreadable, or no longer the same at the end.
    """
    problem = obstacle(path)
    if problem:
        raise DataError(problem)
    hint = "wait until it is complete, or read a copy"
    changed = DataError("the file changed while it was read", where=str(path), hint=hint)
    try:
        before = _stamp(path)
        with path.open("rb") as file:
            try:
                yield file
            except DataError as broken:
                raise broken if _stamp(path) == before else changed from None
        if _stamp(path) != before:
            raise changed
    except OSError as error:
        raise DataError(unreadable(path, error)) from None


def _stamp(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ino
