"""Rows out of words in columns, as the shared tasks of CoNLL have them: a word a line, an empty line between sentences.

Columns are apart by a tab where a line has one, and by blanks elsewhere. A row is a sentence: a list for each column,
by its number. Lines that are not words are skipped: `-DOCSTART-`, which begins a document, and comments, lines that
begin a sentence with `#` and hold `=`; in CoNLL-U every line with `#`, and the words of several others (`1-2`, `8.1`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from fttool.rows.files.file import RowFile

UNIVERSAL = ".conllu"
"""The suffix of CoNLL-U (https://universaldependencies.org/format.html): its first column numbers the words."""
SUFFIXES = (".conll", UNIVERSAL, ".iob", ".iob2", ".bio", ".bioes")
"""Suffixes of files that hold words in columns."""
DOCUMENT = "-DOCSTART-"


def sentence_rows(file: RowFile, lines: Iterator[str], *, universal: bool) -> Iterator[dict[str, list[str]]]:
    """Yield `{"column 1": […], "column 2": […]}` for each sentence; `file.line` is where it starts.

    Raises:
        DataError: for a line that has other columns than the one before it, or an empty one; for a NUL character.
    """
    words: list[list[str]] = []
    for number, line in enumerate(lines, start=1):
        if "\0" in line:
            raise file.error("the text contains a NUL character", "write the file again", number)
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
