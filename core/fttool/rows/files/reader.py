"""Rows of a file, one at a time, each with the line it starts on: JSON lines, a JSON array, a table, or sentences.

Reading is strict: what is let through here changes the training data unseen. The first broken row ends it.
"""

from __future__ import annotations

import codecs
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fttool.errors import DataError
from fttool.rows.files import conll, strictjson
from fttool.rows.files.array import array_rows
from fttool.rows.files.file import CHUNK, RowFile, opened, steady
from fttool.rows.files.table import SEPARATORS, table_rows

MAX_ROW_BYTES = 100_000_000
"""A row beyond this is refused: no file is read into memory for want of a newline."""


JSON = (".jsonl", ".json", ".ndjson")
"""Suffixes of files that hold JSON whatever they begin with."""
READ = (
    "JSON lines are read, a JSON array (.json), tables with a header (.csv, .tsv), and words in columns (.conll): "
    "write the rows in one of these formats"
)


def read_file(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line from 1, row): of `.csv` and `.tsv` as `read_table` does, of `.conll` and its kin as `read_sentences`,
    packed or not, and else as `read_jsonl`.
    """
    suffix = _suffix(path)
    if suffix in conll.SUFFIXES:
        return read_sentences(path, universal=suffix == conll.UNIVERSAL)
    return read_table(path, SEPARATORS[suffix]) if suffix in SEPARATORS else read_jsonl(path)


def _suffix(path: Path) -> str:
    """The suffix that says what the file holds, packed or not."""
    return Path(path.name.lower().removesuffix(".gz")).suffix


def read_table(path: Path, separator: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line from 1, row) for each row below the header; blank lines are skipped, gzip is unpacked.

    Raises:
        DataError: while iterating, as `read_jsonl` and `table_rows` do.
    """
    with opened(path) as file:
        head = file.stream.peek(CHUNK)
        file.refuse_foreign(head)
        for row in table_rows(file, _text_lines(file), separator, MAX_ROW_BYTES):
            yield file.line, row
            file.rows += 1
        if not file.rows:
            what = "has no rows below its header" if head.strip() else "is empty"
            raise DataError(f"the file {what}", where=str(path), hint="name the columns, and write rows below them")


def read_sentences(path: Path, *, universal: bool) -> Iterator[tuple[int, dict[str, list[str]]]]:
    """Yield (line from 1, row) for each sentence of a file of words in columns; gzip is unpacked.

    Raises:
        DataError: while iterating, as `read_jsonl` and `sentence_rows` do.
    """
    with opened(path) as file:
        head = file.stream.peek(CHUNK)
        file.refuse_foreign(head)
        for row in conll.sentence_rows(file, _text_lines(file), universal=universal):
            yield file.line, row
            file.rows += 1
        if not file.rows:
            what = "holds no words" if head.strip() else "is empty"
            raise DataError(f"the file {what}", where=str(path), hint="write a word and its tag per line")


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line from 1, row) for each row; blank lines are skipped, gzip is unpacked.

    Raises:
        DataError: while iterating, located at `path` or `path:line`: no such file, no rows, broken JSON, a
            row that is not an object, another encoding, a file that is cut off or changes meanwhile.
    """
    with opened(path) as file:
        head = file.stream.peek(CHUNK)
        file.refuse_foreign(head)
        begin = head.removeprefix(codecs.BOM_UTF8).lstrip(b" \t\r\n")
        array = begin.startswith(b"[")
        if not begin.startswith((b"[", b"{")) and begin and _suffix(path) not in JSON:
            message = f"by its name ({path.suffix or 'no suffix'}) and its first line this is not JSON lines"
            raise DataError(message, where=str(path), hint=READ)
        for row in array_rows(file, MAX_ROW_BYTES) if array else _line_rows(file):
            yield file.line, row
            file.rows += 1
        if not file.rows:
            what = "is an empty array" if array else "has only blank lines" if head else "is empty"
            raise DataError(f"the file {what}", where=str(path), hint="write one JSON object per line")


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line from 1, its text without the line break) for each line of a text file that is not blank.

    Raises:
        DataError: while iterating, as `read_jsonl` does where no JSON is concerned, and for a NUL character.
    """
    with opened(path) as file:
        head = file.stream.peek(CHUNK)
        file.refuse_foreign(head)
        for line in _text_lines(file):
            file.line += 1
            if "\0" in line:
                raise file.error("the text contains a NUL character", "is it a text file?")
            if line.strip():
                yield file.line, line.rstrip("\r\n")
                file.rows += 1
        if not file.rows:
            what = "has only blank lines" if head else "is empty"
            raise DataError(f"the file {what}", where=str(path), hint="write one text per line")


def fingerprint(path: Path) -> dict[str, str | int]:
    """What `lock.json` notes of a file: `sha256` (hex) and `bytes`, both of the file as it lies on disk.

    Raises:
        DataError: for a file that cannot be read, or that changes while it is read.
    """
    digest, size = hashlib.sha256(), 0
    with steady(path) as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return {"sha256": digest.hexdigest(), "bytes": size}


def _line_rows(file: RowFile) -> Iterator[dict[str, Any]]:
    for line in _text_lines(file):
        file.line += 1
        text = line.rstrip("\r\n")
        start = strictjson.after_blank(text)
        if start < len(text):
            yield _row(file, text, start, ended=line.endswith("\n"))


def _text_lines(file: RowFile) -> Iterator[str]:
    """The lines of a file, each with its line break."""
    number = 0
    while raw := file.stream.readline(MAX_ROW_BYTES + 1):
        number += 1
        if len(raw) > MAX_ROW_BYTES:
            message = f"the line is longer than {MAX_ROW_BYTES:,} bytes"
            raise file.error(message, "is every row on its own line? split what is too long", number)
        yield _decode(file, raw, number)


def _decode(file: RowFile, raw: bytes, line: int) -> str:
    raw = raw.removeprefix(codecs.BOM_UTF8)  # on any line: files with marks get joined
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data":  # never before a newline
            raise _cut_line(file, line) from None
        raise file.not_utf8(raw[error.start], line, error.start + 1) from None


def _row(file: RowFile, text: str, start: int, *, ended: bool) -> dict[str, Any]:
    try:
        row, end = strictjson.decode(text, start)
    except strictjson.RefusedError as refused:
        raise file.error(str(refused), "fix or delete the row") from None
    except json.JSONDecodeError as error:
        if not ended and strictjson.looks_cut(error):
            raise _cut_line(file, file.line) from None
        raise file.error(*strictjson.describe(error.msg, text, error.pos, error.pos + 1)) from None
    end = strictjson.after_blank(text, end)
    if end < len(text):
        message = "a second row on the line" if text[end] == "{" else "more text after the row"
        raise file.error(*strictjson.describe(message, text, end, end + 1))
    return row


def _cut_line(file: RowFile, line: int) -> DataError:
    return file.error("the last line is cut off", "write the file again, or delete the line", line)
