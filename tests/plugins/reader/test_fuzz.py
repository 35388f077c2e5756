"""Damaged files: each is read as a plain twin reads it, or refused; nothing is silent, and nothing else is raised."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fttool.errors import DataError
from fttool_plugins.reader.auto import Auto

from .reading import numbered

ROWS: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "content": 'é\u2028 "q" \\ 😀'}, {"role": "assistant", "content": "a,b\tc"}]},
    {"text": "", "n": [1, -2.5e-3, None, True, {"k": {}}], "a": {"b": [[]]}},
    {"text": "x" * 70, "ü": "\ufeff\u0000"},
]
PIECES = (
    *('"', "'", "\\", "{", "}", "[", "]", ",", ":", "\n", "\r", "\r\n", "\t", " ", "\0", "\ufeff", "\u2028", ";"),
    *("NaN", "-Infinity", "1e999", "01", "1.", "true", "null", "\\u0000", "\\ud800", "\\udc00", "//", '"text": 1,'),
    *("# id = 1", "-DOCSTART-", "B-PER", '""', '",', "\x85", "\x0c"),
)
"""What breaks a file, or looks as if it did."""


def damaged(content: bytes, draw: random.Random) -> bytes:
    """The same with one to four faults."""
    for _ in range(draw.randrange(1, 5)):
        place, length = draw.randrange(len(content) + 1), draw.randrange(1, 12)
        match draw.randrange(7):
            case 0:
                content = content[:place]
            case 1:
                content = content[:place] + content[place + length :]
            case 2:
                content = content[:place] + content[place : place + length] * 2 + content[place + length :]
            case 3:
                content = content[:place] + draw.choice(PIECES).encode() + content[place:]
            case 4:
                content = content[:place] + bytes([draw.randrange(256)]) + content[place + 1 :]
            case 5:
                lines = content.split(b"\n")
                draw.shuffle(lines)
                content = b"\n".join(lines)
            case _:
                other = draw.randrange(len(content) + 1)
                content = content[:place] + content[other : other + length] + content[place:]
    return content


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key twice")
    return dict(pairs)


def _refused(name: str) -> Any:
    raise ValueError(name)


def strictly(text: str) -> Any:
    """A JSON value; raises `ValueError` for what RFC 8259 leaves open, too."""
    value = json.loads(text, object_pairs_hook=_pairs, parse_constant=_refused)
    json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    return value


def json_twin(content: bytes) -> list[Any]:
    """The rows of JSON lines or of an array; raises `ValueError` where a file is to be refused."""
    text = content.decode()
    if text.removeprefix("\ufeff").lstrip(" \t\r\n").startswith("["):
        rows = strictly(text.removeprefix("\ufeff").strip(" \t\r\n"))
    else:
        lines = [line.removeprefix("\ufeff").strip(" \t\r") for line in text.split("\n")]
        rows = [strictly(line) for line in lines if line]
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise ValueError("not rows")
    return rows


def csv_twin(content: bytes) -> list[Any]:
    """The rows of a table below its header."""
    text = "".join(line.removeprefix("\ufeff") for line in content.decode().splitlines(keepends=True))
    if "\0" in text:
        raise ValueError("NUL")
    try:
        header, *rows = [fields for fields in csv.reader(io.StringIO(text, newline=""), strict=True) if fields]
    except csv.Error as error:
        raise ValueError(str(error)) from None
    if not rows or len(set(header)) < len(header) or any(len(fields) != len(header) for fields in rows):
        raise ValueError("not a table")
    return [dict(zip(header, fields, strict=True)) for fields in rows]


def text_twin(content: bytes) -> list[Any]:
    """The lines that are not blank."""
    lines = [line.removeprefix("\ufeff").rstrip("\r") for line in content.decode().split("\n")]
    rows = [{"text": line} for line in lines if line.strip()]
    if not rows or any("\0" in row["text"] for row in rows):
        raise ValueError("not text")
    return rows


LINES = "".join(json.dumps(row, ensure_ascii=draw) + "\n" for draw in (True, False) for row in ROWS[:2])
SEEDS: dict[str, tuple[bytes, Callable[[bytes], list[Any]]]] = {
    "rows.jsonl": (LINES.encode(), json_twin),
    "rows.json": (json.dumps(ROWS, indent=1).encode(), json_twin),
    "rows.csv": (b'text,label\n"a, ""b""\nc",x\nd,y\n', csv_twin),
    "rows.txt": ("one\n\ntwo é\r\nthree\n".encode(), text_twin),
}


def outcome(path: Path) -> list[Any] | None:
    """The rows of a file; None where it is refused, which must name it."""
    try:
        return [dict(row) for _, row in numbered(path, Auto())]
    except DataError as refused:
        assert str(path) in str(refused) and len(refused.problems) == 1
        return None


@pytest.mark.parametrize("name", SEEDS)
@pytest.mark.parametrize("count", [300, pytest.param(5_000, marks=pytest.mark.full)])
def test_a_damaged_file_is_read_as_its_twin_reads_it_or_refused(tmp_path: Path, name: str, count: int) -> None:
    content, twin = SEEDS[name]
    path, draw = tmp_path / name, random.Random(f"{name} {count}")
    read = 0
    for _ in range(count):
        wrong = damaged(content, draw)
        path.write_bytes(wrong)
        rows = outcome(path)
        if rows is None:
            continue
        read += 1
        try:
            expected = twin(wrong)
        except ValueError as fault:
            pytest.fail(f"{wrong!r} is read as {rows!r}, and should be refused: {fault}")
        assert rows == expected, wrong
    assert 0 < read < count, "no fault is harmless, or every one"


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz"])
def test_a_damaged_package_gives_the_rows_that_went_in_or_is_refused(tmp_path: Path, suffix: str) -> None:
    pack: Any = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}[suffix]
    whole = "".join(json.dumps({"n": n}) + "\n" for n in range(200)).encode()
    content, path, draw = pack(whole), tmp_path / f"rows.jsonl{suffix}", random.Random(suffix)
    rows = [{"n": n} for n in range(200)]
    for _ in range(150):
        wrong = bytearray(content)
        for _ in range(draw.randrange(1, 4)):
            wrong[draw.randrange(len(wrong))] = draw.randrange(256)
        path.write_bytes(wrong[: draw.randrange(1, len(wrong))] if draw.random() < 0.3 else wrong)
        assert outcome(path) in (None, rows)
