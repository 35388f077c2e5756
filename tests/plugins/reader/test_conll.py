"""Words in columns: sentences with their lines, what is passed over, and what is refused."""

from __future__ import annotations

import gzip
import random
from pathlib import Path
from typing import Any

import pytest

from fttool.errors import DataError

from .reading import numbered


def read(path: Path, text: str, name: str = "rows.conll") -> list[tuple[int, dict[str, Any]]]:
    file = path / name
    file.write_bytes(text.encode())
    return list(numbered(file))


def test_sentences_with_the_lines_they_start_on(tmp_path: Path) -> None:
    text = "-DOCSTART- -X- O\n\nAnna NNP B-PER\nsings VBZ O\n\n\nRome NNP B-LOC\n"
    assert read(tmp_path, text) == [
        (3, {"column 1": ["Anna", "sings"], "column 2": ["NNP", "VBZ"], "column 3": ["B-PER", "O"]}),
        (7, {"column 1": ["Rome"], "column 2": ["NNP"], "column 3": ["B-LOC"]}),
    ]


def test_tabs_keep_blanks_and_other_line_breaks_are_none(tmp_path: Path) -> None:
    rows = read(tmp_path, "New York\tB-LOC\r\na\u2028b\tO\r\n\u00a0x\tO\r\n \t \r\n#\tO\n# 3\tO", "rows.IOB2")
    assert [row["column 1"] for _, row in rows] == [["New York", "a\u2028b", "\u00a0x"], ["#", "# 3"]]
    assert [line for line, _ in rows] == [1, 5]


def test_comments_and_words_of_several(tmp_path: Path) -> None:
    text = "# sent_id = 1\n# text here\n1-2\tdu\t_\n1\tde\tADP\n2\tle\tDET\n2.1\tx\t_\n\n1\tl'\tDET\n"
    rows = read(tmp_path, text, "rows.conllu")
    assert rows == [
        (4, {"column 1": ["1", "2"], "column 2": ["de", "le"], "column 3": ["ADP", "DET"]}),
        (8, {"column 1": ["1"], "column 2": ["l'"], "column 3": ["DET"]}),
    ]
    assert read(tmp_path, "# id = 5\nAnna O\n# O\n")[0][1]["column 1"] == ["Anna", "#"]


def test_packed(tmp_path: Path) -> None:
    (tmp_path / "rows.conll.gz").write_bytes(gzip.compress(b"Anna B-PER\n"))
    assert [row for _, row in numbered(tmp_path / "rows.conll.gz")] == [{"column 1": ["Anna"], "column 2": ["B-PER"]}]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    draw = random.Random(2)
    letters = ["a", "ß", "-", "#", "…", "東", "'"]
    for between in (" ", "\t", "   "):
        sentences = [
            [
                ["".join(draw.choices(letters, k=draw.randrange(1, 4))) for _ in range(3)]
                for _ in range(draw.randrange(1, 5))
            ]
            for _ in range(40)
        ]
        text = "\n\n".join("\n".join(between.join(word) for word in words) for words in sentences)
        rows = [list(zip(*row.values(), strict=True)) for _, row in read(tmp_path, text)]
        assert rows == [[tuple(word) for word in words] for words in sentences]


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("Anna B-PER\nsings\n", 2, "the line has one column, 'sings'"),
        ("Anna NNP B-PER\nsings O\n", 2, "the line has 2 columns, the one before it 3"),
        ("Anna\tB-PER\n\tO\n", 2, "column 1 is empty"),
        ("Anna\t\n", 1, "column 2 is empty"),
        ("Anna B-PER\n\nx\0 O\n", 3, "a NUL character"),
        ("", 0, "the file is empty"),
        ("\n\n-DOCSTART- O\n", 0, "the file holds no words"),
    ],
)
def test_what_is_broken_is_named_by_its_line(tmp_path: Path, text: str, line: int, said: str) -> None:
    with pytest.raises(DataError, match=said) as broken:
        read(tmp_path, text)
    where = broken.value.problems[0].where
    assert where == (f"{tmp_path}/rows.conll:{line}" if line else f"{tmp_path}/rows.conll")
