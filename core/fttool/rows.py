"""Rows of JSON lines, or of a JSON array, one at a time, each with the line it starts on.

Reading is strict: what is let through here changes the training data unseen. The first broken row ends it.
"""

from __future__ import annotations

import codecs
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fttool import strictjson
from fttool.errors import DataError
from fttool.rowarray import array_rows
from fttool.rowfile import CHUNK, RowFile, opened, steady

MAX_ROW_BYTES = 100_000_000
"""A row beyond this is refused: no file is read into memory for want of a newline."""


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line from 1, row) for each row; blank lines are skipped, gzip is unpacked.

    Raises:
        DataError: while iterating, located at `path` or `path:line`: no such file, no rows, broken JSON, a
            row that is no object, another encoding, a file that is cut off or changes meanwhile.
    """
    with opened(path) as file:
        head = file.stream.peek(CHUNK)
        file.refuse_foreign(head)
        array = head.removeprefix(codecs.BOM_UTF8).lstrip(b" \t\r\n").startswith(b"[")
        for row in array_rows(file, MAX_ROW_BYTES) if array else _line_rows(file):
            yield file.line, row
            file.rows += 1
        if not file.rows:
            what = "is an empty array" if array else "holds blank lines only" if head else "is empty"
            raise DataError(f"the file {what}", where=str(path), hint="write one JSON object per line")


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
    while raw := file.stream.readline(MAX_ROW_BYTES + 1):
        file.line += 1
        if len(raw) > MAX_ROW_BYTES:
            message = f"the line is longer than {MAX_ROW_BYTES:,} bytes"
            raise file.error(message, "does every row stand on its own line? split what is too long")
        text = _decode(file, raw)
        start = strictjson.after_blank(text)
        if start < len(text):
            yield _row(file, text, start, ended=raw.endswith(b"\n"))


def _decode(file: RowFile, raw: bytes) -> str:
    raw = raw.removeprefix(codecs.BOM_UTF8)  # on any line: files with marks get joined
    try:
        return raw.decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data":  # never before a newline
            raise _cut_line(file) from None
        raise file.not_utf8(raw[error.start], file.line, error.start + 1) from None


def _row(file: RowFile, text: str, start: int, *, ended: bool) -> dict[str, Any]:
    try:
        row, end = strictjson.decode(text, start)
    except strictjson.RefusedError as refused:
        raise file.error(str(refused), "mend or delete the row") from None
    except json.JSONDecodeError as error:
        if not ended and strictjson.looks_cut(error):
            raise _cut_line(file) from None
        raise file.error(*strictjson.describe(error.msg, text, error.pos, error.pos + 1)) from None
    end = strictjson.after_blank(text, end)
    if end < len(text):
        message = "a second row on the line" if text[end] == "{" else "more text after the row"
        raise file.error(*strictjson.describe(message, text, end, end + 1))
    return row


def _cut_line(file: RowFile) -> DataError:
    return file.error("the last line is cut off", "write the file again, or delete the line")
