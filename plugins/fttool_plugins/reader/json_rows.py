"""JSON lines, and JSON arrays: one object a row.

Reading is strict: what is let through here changes the training data unseen. The first broken row ends it.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

from typing_extensions import override

from fttool.api import DataError, RawRows, Reader, ReaderContext, RowFile, RowSource, open_rows, packed_suffix
from fttool_plugins.reader import strictjson
from fttool_plugins.reader.json_array import array_rows


class Json(Reader):
    """JSON lines (an object a line), or one JSON array of objects: which of them, its first character says.

    Broken JSON, NaN, a key twice in one object, halves of characters and numbers beyond floats end the reading with
    their line. Blank lines are skipped. An array is read without loading the whole of it.
    """

    name: Literal["json"] = "json"
    suffixes: ClassVar[tuple[str, ...]] = (".jsonl", ".json", ".ndjson")

    @override
    def build(self, ctx: ReaderContext) -> RowSource:
        return _rows


def _rows(path: Path) -> RawRows:
    with open_rows(path) as file:
        head = file.head()
        begin = head.removeprefix(codecs.BOM_UTF8).lstrip(b" \t\r\n")
        array = begin.startswith(b"[")
        if not begin.startswith((b"[", b"{")) and begin and packed_suffix(path) not in Json.suffixes:
            message = f"by its name ({path.suffix or 'no suffix'}) and its first line this is not JSON lines"
            hint = '`fttool plugins --family reader` lists what can be read; name one: reader = "csv"'
            raise DataError(message, where=str(path), hint=hint)
        for row in array_rows(file) if array else _line_rows(file):
            yield f"{path}:{file.line}", row
            file.rows += 1
        if not file.rows:
            what = "is an empty array" if array else "has only blank lines" if head else "is empty"
            raise DataError(f"the file {what}", where=str(path), hint="write one JSON object per line")


def _line_rows(file: RowFile) -> Iterator[dict[str, Any]]:
    for line in file.lines():
        file.line += 1
        text = line.rstrip("\r\n")
        start = strictjson.after_blank(text)
        if start < len(text):
            yield _row(file, text, start, ended=line.endswith("\n"))


def _row(file: RowFile, text: str, start: int, *, ended: bool) -> dict[str, Any]:
    try:
        row, end = strictjson.decode(text, start)
    except strictjson.RefusedError as refused:
        raise file.error(str(refused), "fix or delete the row") from None
    except json.JSONDecodeError as error:
        if not ended and strictjson.looks_cut(error):
            raise file.cut_line(file.line) from None
        raise file.error(*strictjson.describe(error.msg, text, error.pos, error.pos + 1)) from None
    end = strictjson.after_blank(text, end)
    if end < len(text):
        message = "a second row on the line" if text[end] == "{" else "more text after the row"
        raise file.error(*strictjson.describe(message, text, end, end + 1))
    return row
