"""Words in columns, as the shared tasks of CoNLL have them: a word a line, an empty line between sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from typing_extensions import override

from fttool.api import DataError, RawRows, Reader, ReaderContext, RowFile, RowSource, open_rows, packed_suffix

UNIVERSAL = ".conllu"
"""The suffix of CoNLL-U (https://universaldependencies.org/format.html): its first column numbers the words."""
DOCUMENT = "-DOCSTART-"


class Conll(Reader):
    """Words in columns (`.conll`, `.conllu`, `.iob`, `.bio` and their kin): a row is a sentence, with a list for each
    column by its number, `column 1`, `column 2` …

    Columns are apart by a tab where a line has one, and by blanks elsewhere. Lines that are not words are skipped:
    `-DOCSTART-`, which begins a document, and comments, lines that begin a sentence with `#` and hold `=`; in CoNLL-U
    every line with `#`, and the words of several others (`1-2`, `8.1`).
    """

    name: Literal["conll"] = "conll"
    suffixes: ClassVar[tuple[str, ...]] = (".conll", UNIVERSAL, ".iob", ".iob2", ".bio", ".bioes")

    @override
    def build(self, ctx: ReaderContext) -> RowSource:
        return _rows


def _rows(path: Path) -> RawRows:
    with open_rows(path) as file:
        head = file.head()
        for row in _sentences(file, universal=packed_suffix(path) == UNIVERSAL):
            yield f"{path}:{file.line}", row
            file.rows += 1
        if not file.rows:
            what = "holds no words" if head.strip() else "is empty"
            raise DataError(f"the file {what}", where=str(path), hint="write a word and its tag per line")


def _sentences(file: RowFile, *, universal: bool) -> Iterator[dict[str, list[str]]]:
    """The columns of each sentence; `file.line` is where it starts."""
    words: list[list[str]] = []
    for number, line in enumerate(file.text_lines(), start=1):
        text = line.rstrip("\r\n")
        if not text.strip(" \t"):
            yield from _row(words)
            words = []
        elif not _is_comment(text, first=not words, universal=universal):
            file.line = number if not words else file.line
            fields = _fields(file, text, number, words[-1] if words else [])
            if fields[0] != DOCUMENT and not (universal and re.search(r"[-.]", fields[0])):
                words.append(fields)
    yield from _row(words)


def _row(words: list[list[str]]) -> Iterator[dict[str, list[str]]]:
    if words:
        yield {f"column {number}": list(column) for number, column in enumerate(zip(*words, strict=True), start=1)}


def _is_comment(text: str, *, first: bool, universal: bool) -> bool:
    return text.startswith("#") and (universal or (first and "=" in text))


def _fields(file: RowFile, text: str, number: int, before: list[str]) -> list[str]:
    """The columns of a line, which are as many as those of the line `before` it in its sentence."""
    tabs = "\t" in text
    fields = [field.strip(" ") for field in text.split("\t")] if tabs else re.split(" +", text.strip(" "))
    if "" in fields:
        raise file.error(f"column {fields.index('') + 1} is empty", "is a word or its tag missing?", number)
    if len(fields) == 1:
        message = f"the line has one column, {text[:40]!r}"
        raise file.error(message, "separate a word and its tag by a tab or a space", number)
    if before and len(fields) != len(before):
        message = f"the line has {len(fields)} columns, the one before it {len(before)}"
        raise file.error(message, "is a word or its tag missing, or the empty line between two sentences?", number)
    return fields
