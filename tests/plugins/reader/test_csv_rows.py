"""Tables in text: read as they stand, line by line, and refused where a row could be another one than was meant."""

from __future__ import annotations

import csv
import gzip
import io
import random
from pathlib import Path
from typing import Any

import pytest

from fttool.errors import DataError
from fttool_plugins.reader.csv_rows import Csv

from .reading import numbered


def read(folder: Path, content: bytes | str, name: str = "rows.csv") -> list[tuple[int, dict[str, Any]]]:
    file = folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(numbered(file))


def test_quotes_line_breaks_and_blank_lines(tmp_path: Path) -> None:
    rows = read(tmp_path, 'text,label\r\n"a, ""q""\r\nb",x\r\n\r\n c ,y\r\n')
    assert rows == [(2, {"text": 'a, "q"\r\nb', "label": "x"}), (5, {"text": " c ", "label": "y"})]


def test_a_byte_order_mark_and_gzip(tmp_path: Path) -> None:
    content = "\ufefftext,label\na,x\n".encode()
    expected = [(2, {"text": "a", "label": "x"})]
    assert read(tmp_path, content) == expected
    assert read(tmp_path, gzip.compress(content), "rows.CSV.gz") == expected


def test_in_tsv_a_quote_is_a_letter(tmp_path: Path) -> None:
    rows = read(tmp_path, 'text\tlabel\n"open\tx\na "b" c,\ty\n', "rows.tsv")
    assert rows == [(2, {"text": '"open', "label": "x"}), (3, {"text": 'a "b" c,', "label": "y"})]


def test_what_python_writes_is_read_back(tmp_path: Path) -> None:
    draw = random.Random(0)
    letters = ["a", "b", '"', ",", "\n", " ", "\u00e9", ";", "\t"]
    rows = [{"text": "".join(draw.choices(letters, k=9)) + ".", "label": str(n)} for n in range(300)]
    written = io.StringIO(newline="")
    writer = csv.DictWriter(written, ["text", "label"])
    writer.writeheader()
    writer.writerows(rows)
    assert [row for _, row in read(tmp_path, written.getvalue())] == rows


def test_a_long_field_is_read(tmp_path: Path) -> None:
    (row,) = read(tmp_path, "text,label\n" + "x" * 300_000 + ",y\n")
    assert len(row[1]["text"]) == 300_000


BROKEN: dict[str, tuple[bytes, str, tuple[str, ...]]] = {
    "empty": (b"", "", ("the file is empty",)),
    "blank lines": (b"\n\r\n", "", ("the file is empty",)),
    "header only": (b"text,label\n", "", ("no rows below its header",)),
    "too few fields": (b"text,label\na,x\nb\n", ":3", ("the row has 1 field, the header 2 fields", "1 row before")),
    "too many fields": (b"text,label\na,x,y\n", ":2", ("the row has 3 fields", "first field is 'a'")),
    "an open quote": (b'text,label\na,x\n"b,y\nc,z\n', ":3", ("a quote opens in this row and never closes",)),
    "a quote inside": (b'text,label\n"a"b,x\n', ":2", ("misplaced quote", "double the quote")),
    "another separator": (b"text;label\na;x\n", ":1", ("the header is one column", 'separator = ";"')),
    "tabs": (b"text\tlabel\na\tx\n", ":1", ("the header is one column", 'separator = "\\t"')),
    "an index": (b",text\n0,a\n", ":1", ("column 1 of the header has no name", "index = true")),
    "a column twice": (b"text,text\na,x\n", ":1", ("names 'text' twice",)),
    "a column without a name": (b"text,\na,x\n", ":1", ("column 2 of the header has no name",)),
    "Latin-1": (b'text,label\n"a\nb\xe9",x\n', ":3", ("byte 0xe9 at column 2 is not UTF-8", "iconv -f WINDOWS-1252")),
    "UTF-16": ("text,label\na,x\n".encode("utf-16"), "", ("in UTF-16, not in UTF-8",)),
    "NUL": (b"text,label\na,x\nb\0,y\n", ":3", ("a NUL character",)),
    "cut off in a letter": (b"text,label\na,x\nb,\xc3", ":3", ("the last line is cut off",)),
    "line breaks of old": (b"text,label\ra,x\r", ":1", ("carriage return alone",)),
    "Parquet": (b"PAR1....", "", ("not a whole Parquet file",)),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_no_table_is_refused(tmp_path: Path, kind: str) -> None:
    content, place, said = BROKEN[kind]
    with pytest.raises(DataError) as refused:
        read(tmp_path, content)
    (problem,) = refused.value.problems
    assert problem.where == f"{tmp_path / 'rows.csv'}{place}" and problem.hint
    assert all(text in str(problem) for text in said), str(problem)


def test_another_separator_names_of_columns_and_an_index(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text('"a, b";x\n"c;""d""";y\n')
    options = Csv(separator=";", columns=("text", "label"))
    rows = [(1, {"text": "a, b", "label": "x"}), (2, {"text": 'c;"d"', "label": "y"})]
    assert list(numbered(file, options)) == rows
    file.write_text(",text,label\n0,a,x\n1,b,y\n")
    assert list(numbered(file, Csv(index=True))) == [(2, {"text": "a", "label": "x"}), (3, {"text": "b", "label": "y"})]
    with pytest.raises(DataError, match="the row has 3 fields, columns 2 fields"):
        list(numbered(file, Csv(columns=("text", "label"))))
    file.write_text("text,label\na,x\n")
    with pytest.raises(DataError, match="leave index out"):
        list(numbered(file, Csv(index=True)))
