"""Rows out of one JSON array, without loading the whole of it."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import Any

from fttool.api import MAX_ROW_BYTES, DataError, RowFile
from fttool_plugins.reader import strictjson

CHUNK = 1 << 16
"""Bytes read in one go, at least."""


def array_rows(file: RowFile) -> Iterator[dict[str, Any]]:
    """Yield the objects of the array that is the whole file; `file.line` is where each of them starts.

    Raises:
        DataError: where the array is cut off or broken, or holds more than objects of up to `MAX_ROW_BYTES`.
    """
    window = _Window(file)
    window.next()
    window.at += 1
    if window.next() == "]":
        window.at += 1
    else:
        yield from _elements(window)
    if window.next():
        raise window.broken("text after the array's end", window.at)


def _elements(window: _Window) -> Iterator[dict[str, Any]]:
    while window.next():
        yield window.element()
        after = window.next()
        if after and after not in ",]":
            raise window.broken("expecting ',' or ']'", window.at)
        window.at += len(after)
        if after == "]":
            return
    raise window.cut()


class _Window:
    """The stretch of the array that is being read: it grows to hold a whole row, and forgets what is done."""

    def __init__(self, file: RowFile) -> None:
        self.text = ""
        self.at = 0
        """What is read next."""
        self._file = file
        self._marked = 0
        """An offset whose line and column are known."""
        self._line = 1
        self._column = 1
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()

    def next(self) -> str:
        """The next character that is not white space, with `at` on it; empty at the end of the file."""
        self.at = strictjson.after_blank(self.text, self.at)
        while self.at == len(self.text) and self._grow():
            self.at = strictjson.after_blank(self.text, self.at)
        return self.text[self.at : self.at + 1]

    def element(self) -> dict[str, Any]:
        """The row that starts at `at`, which moves after it."""
        self._mark()
        self._file.line = self._line
        failed_before = -1
        while True:
            try:
                row, end = strictjson.decode(self.text, self.at)
                self._refuse_longer_than(end - self.at)
                self.at = end
                return row
            except strictjson.RefusedError as refused:
                raise self._file.error(str(refused), "fix or delete the row") from None
            except json.JSONDecodeError as error:
                # Incomplete JSON fails further on when there is more of it, broken JSON at the same place.
                # Only a string without an end always fails at its start.
                failed = error.pos - self.at
                incomplete = strictjson.in_string(error) or failed != failed_before
                failed_before = failed
                if incomplete:
                    self._refuse_longer_than(len(self.text) - self.at)
                if not incomplete or not self._grow():
                    cut = strictjson.looks_cut(error)
                    raise (self.cut() if cut else self.broken(error.msg, self.at + failed)) from None

    def _refuse_longer_than(self, length: int) -> None:
        if length > MAX_ROW_BYTES:
            message = f"the row is longer than {MAX_ROW_BYTES:,} bytes"
            raise self._file.error(message, "is a quote or a bracket missing?")

    def broken(self, message: str, pos: int) -> DataError:
        """The array is broken at an offset of the window."""
        line, column = self._place(pos)
        return self._file.error(*strictjson.describe(message, self.text, pos, column), line)

    def cut(self) -> DataError:
        """The file ends inside the array."""
        message = "the array is cut off: the file ends before its ']'"
        return self._file.error(message, "write or download it again", self._place(len(self.text))[0])

    def _place(self, offset: int) -> tuple[int, int]:
        """Line and column, from 1."""
        newline = self.text.rfind("\n", self._marked, offset)
        column = self._column + offset - self._marked if newline < 0 else offset - newline
        return self._line + self.text.count("\n", self._marked, offset), column

    def _mark(self) -> None:
        self._line, self._column = self._place(self.at)
        self._marked = self.at

    def _grow(self) -> bool:
        """Forget what is done and read on, as much again as there is; False at the end of the file."""
        self._mark()
        self.text, self.at, self._marked = self.text[self.at :], 0, 0
        raw = self._file.stream.read(max(CHUNK, len(self.text)))
        try:
            self.text += self._decoder.decode(raw, final=not raw)
        except UnicodeDecodeError as error:
            if not raw:
                message = "the file is cut off inside a character"
                raise self._file.error(message, "write or download it again", self._place(len(self.text))[0]) from None
            self.text += error.object[: error.start].decode("utf-8-sig")
            raise self._file.not_utf8(error.object[error.start], *self._place(len(self.text))) from None
        return bool(raw)
