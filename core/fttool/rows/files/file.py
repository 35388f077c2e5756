"""A file of rows while it is read: opened, unpacked, unchanged to its end, and able to say where it broke."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from fttool.contracts.recipe import PACKED
from fttool.errors import DataError
from fttool.textfile import convert_hint, foreign_encoding, obstacle, unreadable

CHUNK = 1 << 16
"""Bytes read in one go."""
MAX_ROW_BYTES = 100_000_000
"""A row beyond this is refused: no file is read into memory for want of a newline."""


def _zstd(file: BinaryIO) -> Any:
    import pyarrow as pa  # Python has zstd of its own from 3.14 on

    return pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd")


_UNPACKING: dict[bytes, Callable[[BinaryIO], Any]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
    b"\x28\xb5\x2f\xfd": _zstd,
}
"""By the first bytes of a packed file."""
_BY_ITS_BYTES = "leave `reader` out: its first bytes say what it is"
_FOREIGN_FILES = (
    (b"PAR1", "a Parquet file", _BY_ITS_BYTES),
    (b"ARROW1", "an Arrow file", _BY_ITS_BYTES),
    (b"\xff\xff\xff\xff", "an Arrow stream", _BY_ITS_BYTES),
    (b"PK\x03\x04", "a zip archive", "unpack it: unzip; a spreadsheet: save it as .csv"),
    (b"%PDF", "a PDF", "write its texts as JSON lines, or as text files in a folder"),
    (b"SQLite format 3", "an SQLite database", "write its rows as JSON lines, or find a plugin that reads it"),
)
"""The first bytes of files that are not text, what they are, and what to do."""


@dataclass
class RowFile:
    """A file being read, and how far the reading is."""

    path: Path
    """Where it lies."""
    stream: io.BufferedReader
    """Its bytes, unpacked."""
    packed: bool
    """True where they had to be unpacked."""
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

    def head(self) -> bytes:
        """The first bytes, unpacked, without reading on.

        Raises:
            DataError: where they show another kind of file than text, or another encoding than UTF-8.
        """
        head = self.stream.peek(CHUNK)
        where = str(self.path)
        for magic, kind, hint in _FOREIGN_FILES:
            if head.startswith(magic):
                raise DataError(f"this is {kind}, not text", where=where, hint=hint)
        encoding = foreign_encoding(head)
        if encoding:
            hint = self._convert_hint(encoding)
            raise DataError(f"the file is in {encoding}, not in UTF-8", where=where, hint=hint)
        return head

    def lines(self) -> Iterator[str]:
        """The lines, each with its line break.

        Raises:
            DataError: while iterating, for a line that is not UTF-8, longer than `MAX_ROW_BYTES`, or cut off.
        """
        number = 0
        while raw := self.stream.readline(MAX_ROW_BYTES + 1):
            number += 1
            if len(raw) > MAX_ROW_BYTES:
                message = f"the line is longer than {MAX_ROW_BYTES:,} bytes"
                raise self.error(message, "is every row on its own line? split what is too long", number)
            yield self._decoded(raw, number)

    def text_lines(self) -> Iterator[str]:
        """The same where no line may hold a NUL character, which is what a crash leaves in a file."""
        for number, line in enumerate(self.lines(), start=1):
            if "\0" in line:
                raise self.error("the text contains a NUL character", "write the file again", number)
            yield line

    def cut_line(self, line: int) -> DataError:
        """The file ends inside this line."""
        return self.error("the last line is cut off", "write the file again, or delete the line", line)

    def _decoded(self, raw: bytes, line: int) -> str:
        raw = raw.removeprefix(codecs.BOM_UTF8)  # on any line: files with marks get joined
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            if error.reason == "unexpected end of data":  # never before a newline
                raise self.cut_line(line) from None
            raise self.not_utf8(raw[error.start], line, error.start + 1) from None

    def _convert_hint(self, encoding: str) -> str:
        if self.packed:
            return f"unpack it and save it as UTF-8 (now: {encoding})"
        return convert_hint(self.path, encoding)


def packed_suffix(path: Path) -> str:
    """The suffix that says what a file holds, in lower case, packed or not: `.csv` of `rows.CSV.gz`."""
    name = Path(path.name.lower())
    return Path(name.stem).suffix if name.suffix in PACKED else name.suffix


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line from 1, its text without the line break) for each line of a text file that is not blank.

    Raises:
        DataError: while iterating, for a file that cannot be read or is not text in UTF-8, and one without a text.
    """
    with open_rows(path) as file:
        head = file.head()
        for line in file.text_lines():
            file.line += 1
            if line.strip():
                yield file.line, line.rstrip("\r\n")
                file.rows += 1
        if not file.rows:
            what = "has only blank lines" if head else "is empty"
            raise DataError(f"the file {what}", where=str(path), hint="write one text per line")


@contextmanager
def open_rows(path: Path) -> Generator[RowFile]:
    """The file, unpacked where it is packed with gzip, bzip2, xz or zstd.

    Raises:
        DataError: for a file that is missing, a folder, unreadable, cut off, damaged, or changed while it is read.
    """
    with steady_file(path) as file:
        magic = file.read(max(map(len, _UNPACKING)))
        file.seek(0)
        unpack = next((unpack for first, unpack in _UNPACKING.items() if magic.startswith(first)), None)
        unpacked: Any = unpack(file) if unpack else file
        rows = RowFile(path, io.BufferedReader(unpacked, CHUNK), packed=unpack is not None)
        again = "copy or download it again"
        try:
            yield rows
        except EOFError:
            raise rows.error("the compressed file is cut off", again) from None
        except (zlib.error, gzip.BadGzipFile, lzma.LZMAError) as error:
            raise rows.error(f"the compressed file is damaged: {error}", again) from None
        except OSError as error:  # without a number it comes from a library that unpacks, not from the disk
            if unpack is None or error.errno is not None:
                raise
            raise rows.error(f"the compressed file is damaged, or cut off: {error}", again) from None


@contextmanager
def steady_file(path: Path) -> Generator[BinaryIO]:
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
