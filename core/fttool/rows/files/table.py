"""Rows out of a table in text: comma-separated with quotes (RFC 4180), or tab-separated without.

The first row names the columns. Every other has as many fields, and each of them is text.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from typing import Any

from fttool.rows.files.file import RowFile

SEPARATORS = {".csv": ",", ".tsv": "\t"}
"""The separator by a file's suffix. In TSV a quote is a letter like any other (IANA text/tab-separated-values)."""


def table_rows(file: RowFile, lines: Iterator[str], separator: str, max_bytes: int) -> Iterator[dict[str, str]]:
    """Yield one dictionary a row; `file.line` is where each of them starts. `lines` come with their line breaks.

    Raises:
        DataError: for a header that names no column or one twice, a row of more or fewer fields, a quote that stands
            where none may, a NUL character.
    """
    csv.field_size_limit(max_bytes)  # Python's own limit is 128 KiB
    quoting = csv.QUOTE_MINIMAL if separator == "," else csv.QUOTE_NONE
    reader: Any = csv.reader(_checked(file, lines), delimiter=separator, quoting=quoting, strict=True)
    header: list[str] = []
    while fields := _next(file, reader):
        if not header:
            header = fields
            _check_header(file, header, separator)
            continue
        if len(fields) != len(header):
            message = f"the row has {_count(fields)}, the header {_count(header)}"
            raise file.error(message, f"its first field is {fields[0][:40]!r}; is a quote or a separator missing?")
        yield dict(zip(header, fields, strict=True))


def _next(file: RowFile, reader: Any) -> list[str]:
    """The next row that is not a blank line, with `file.line` on its start; empty at the end."""
    while True:
        file.line = reader.line_num + 1
        try:
            fields: list[str] = next(reader)
        except StopIteration:
            return []
        except csv.Error as error:
            raise file.error(*_explained(str(error))) from None
        if fields:
            return fields


def _explained(error: str) -> tuple[str, str]:
    """What Python's csv found, and what to do about it."""
    if "unexpected end of data" in error:
        return "a quote opens in this row and never closes", 'close it; inside quotes a quote is written twice: ""'
    if "field larger" in error:
        return "a field of this row is too long", "is a quote missing?"
    if "new-line" in error:
        return "the lines end in a carriage return alone", "save the file with line breaks of Unix or Windows"
    return f"misplaced quote: {error}", 'quote a field that contains a quote, and double the quote: ""'


def _checked(file: RowFile, lines: Iterator[str]) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        if "\0" in line:
            raise file.error("the text contains a NUL character", "write the file again", number)
        yield line


def _check_header(file: RowFile, header: list[str], separator: str) -> None:
    names = [name.strip() for name in header]
    if "" in names:
        message = f"column {names.index('') + 1} of the header has no name"
        raise file.error(message, "the first row names the columns: text,label")
    twice = [name for name, count in Counter(header).items() if count > 1]
    if twice:
        raise file.error(f"the header names '{twice[0]}' twice", "rename one of them")
    others = [other for other in ",;\t|" if other != separator and len(header) == 1 and other in header[0]]
    if others:
        message = f"the header is one column, {header[0][:60]!r}"
        fits = "a .tsv file" if others[0] == "\t" else "comma-separated"
        raise file.error(message, f"{others[0]!r} separates nothing here: save it as {fits}")


def _count(fields: list[str]) -> str:
    return "1 field" if len(fields) == 1 else f"{len(fields)} fields"
