"""Plain text as rows: lines, paragraphs, or the whole, each with the line that it starts on."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fttool.contracts.rows import ReaderContext
from fttool.errors import DataError
from fttool_plugins.reader.text import TextLines

from .reading import numbered

TEXT = "\n\ufeffone\r\ntwo\n \n\nthree\n"


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ("line", [(2, "one"), (3, "two"), (6, "three")]),
        ("paragraph", [(2, "one\r\ntwo"), (6, "three")]),
        ("document", [(2, "one\r\ntwo\n \n\nthree")]),
    ],
)
def test_what_becomes_a_row(tmp_path: Path, rows: Any, expected: list[tuple[int, str]]) -> None:
    file = tmp_path / "book.txt"
    file.write_bytes(TEXT.encode())
    assert [(line, row["text"]) for line, row in numbered(file, TextLines(rows=rows))] == expected
    noted = Counter[str]()
    list(TextLines(rows=rows).build(ReaderContext(note=lambda what: noted.update([what])))(file))
    assert noted == {f"rows that are a {rows} of text": len(expected)}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b" \n\n", "has only blank lines"),
        (b"a line\0b", "a NUL character"),
        (b"caf\xe9\n", "not UTF-8"),
    ],
)
def test_what_is_not_text_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "book.txt"
    file.write_bytes(content)
    for rows in ("line", "paragraph", "document"):
        with pytest.raises(DataError, match=said):
            list(numbered(file, TextLines(rows=rows)))


def test_a_paragraph_is_not_read_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "book.txt"
    file.write_text("a line\n" * 1000)
    monkeypatch.setattr("fttool_plugins.reader.text.MAX_ROW_BYTES", 500)
    with pytest.raises(DataError, match="the paragraph is longer than 500 characters"):
        list(numbered(file, TextLines(rows="paragraph")))
