"""Tables in text: comma-separated with quotes (RFC 4180), or tab-separated without."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from typing_extensions import override

from fttool.api import (
    MAX_ROW_BYTES,
    DataError,
    Problem,
    RawRows,
    Reader,
    ReaderContext,
    Recipe,
    RowFile,
    RowSource,
    open_rows,
    packed_suffix,
)

TAB = "\t"


class Csv(Reader):
    """A table in text (`.csv`, `.tsv`): the first row names the columns, every other has as many fields, each of them
    text.

    Fields that hold a separator, a quote or a line break stand in quotes (RFC 4180); where tabs separate, a quote is
    a letter like any other (IANA text/tab-separated-values). A row with more or fewer fields, a misplaced quote and a
    column that is named twice end the reading with their line. Blank lines are skipped.
    """

    name: Literal["csv"] = "csv"
    suffixes: ClassVar[tuple[str, ...]] = (".csv", ".tsv")
    separator: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    """What separates fields: one character; default: a tab in a `.tsv` file, and a comma elsewhere."""
    columns: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Names of the columns of a table without a header: its first line is a row then."""
    index: bool = False
    """True where the first column has no name in the header, since it numbers the rows, as pandas writes it: it is left
    out."""

    @override
    def check(self, recipe: Recipe) -> Iterable[Problem]:
        twice = [name for name, count in Counter(self.columns).items() if count > 1]
        if twice:
            yield Problem(f"columns names '{twice[0]}' twice", hint="rename one of them")
        if self.columns and self.index:
            yield Problem("index is for tables with a header", hint="give the first of columns a name, and ignore it")

    @override
    def build(self, ctx: ReaderContext) -> RowSource:
        def rows(path: Path) -> RawRows:
            with open_rows(path) as file:
                head = file.head()
                for row in _Table(file, self, path).rows():
                    yield f"{path}:{file.line}", row
                    file.rows += 1
                if not file.rows:
                    what = "has no rows below its header" if head.strip() else "is empty"
                    hint = "name the columns, and write rows below them"
                    raise DataError(f"the file {what}", where=str(path), hint=hint)

        return rows


class _Table:
    """The rows of one file."""

    def __init__(self, file: RowFile, options: Csv, path: Path) -> None:
        self._file = file
        self._options = options
        self._separator = options.separator or (TAB if packed_suffix(path) == ".tsv" else ",")
        csv.field_size_limit(MAX_ROW_BYTES)  # Python's own limit is 128 KiB
        quoting = csv.QUOTE_NONE if self._separator == TAB else csv.QUOTE_MINIMAL
        self._reader: Any = csv.reader(file.text_lines(), delimiter=self._separator, quoting=quoting, strict=True)

    def rows(self) -> Iterator[dict[str, str]]:
        """A dictionary a row; `file.line` is where each of them starts."""
        header = list(self._options.columns)
        skipped = int(self._options.index)
        while fields := self._next():
            if not header:
                header = fields
                self._check_header(header)
                continue
            if len(fields) != len(header):
                named = "columns" if self._options.columns else "the header"
                message = f"the row has {_count(fields)}, {named} {_count(header)}"
                raise self._file.error(message, self._advice(fields))
            yield dict(zip(header[skipped:], fields[skipped:], strict=True))

    def _next(self) -> list[str]:
        """The next row that is not a blank line, with `file.line` on its start; empty at the end."""
        while True:
            self._file.line = self._reader.line_num + 1
            try:
                fields: list[str] = next(self._reader)
            except StopIteration:
                return []
            except csv.Error as error:
                raise self._file.error(*_explained(str(error))) from None
            if fields:
                return fields

    def _check_header(self, header: list[str]) -> None:
        names = [name.strip() for name in header]
        nameless = [place for place, name in enumerate(names, start=1) if not name]
        if nameless == [1] and not self._options.index and len(names) > 1:
            message = "column 1 of the header has no name"
            raise self._file.error(message, 'if it numbers the rows: reader = { name = "csv", index = true }')
        if nameless and not (nameless == [1] and self._options.index):
            message = f"column {nameless[-1]} of the header has no name"
            raise self._file.error(message, "the first row names the columns: text,label")
        if self._options.index and not nameless:
            message = f"the first column of the header has a name, {header[0][:40]!r}"
            raise self._file.error(message, "leave index out")
        twice = [name for name, count in Counter(header).items() if count > 1]
        if twice:
            raise self._file.error(f"the header names '{twice[0]}' twice", "rename one of them")
        if len(header) == 1 and self._others(header):
            raise self._file.error(f"the header is one column, {header[0][:60]!r}", self._advice(header))

    def _others(self, fields: list[str]) -> list[str]:
        """Other separators that stand in a row of one field."""
        text = fields[0] if len(fields) == 1 else ""
        return [other for other in (";", TAB, "|", ",") if other != self._separator and other in text]

    def _advice(self, fields: list[str]) -> str:
        others = self._others(fields)
        if others:
            return f'if {others[0]!r} separates the fields: reader = {{ name = "csv", separator = {_toml(others[0])} }}'
        return f"its first field is {fields[0][:40]!r}; is a quote or a separator missing?"


def _toml(character: str) -> str:
    return '"\\t"' if character == TAB else f'"{character}"'


def _explained(error: str) -> tuple[str, str]:
    """What Python's csv found, and what to do about it."""
    if "unexpected end of data" in error:
        return "a quote opens in this row and never closes", 'close it; inside quotes a quote is written twice: ""'
    if "field larger" in error:
        return "a field of this row is too long", "is a quote missing?"
    if "new-line" in error:
        return "the lines end in a carriage return alone", "save the file with line breaks of Unix or Windows"
    return f"misplaced quote: {error}", 'quote a field that contains a quote, and double the quote: ""'


def _count(fields: list[str]) -> str:
    return "1 field" if len(fields) == 1 else f"{len(fields)} fields"
