"""A folder of text files as rows: labels from folders, encodings that are counted, nothing lost without a word."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from fttool.contracts.rows import ReaderContext
from fttool.errors import DataError
from fttool.rows.files.source import fingerprint, read_rows, unchanged
from fttool_plugins.reader.folder import Folder

MAILS = {"ham/b.txt": b"b", "ham/a.txt": b"a", "spam/1.txt": b"one", "ham/old/c.txt": "c\u00e9".encode()}


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_the_folder_is_the_label_and_labels_take_turns(tmp_path: Path) -> None:
    rows = list(read_rows(write(tmp_path / "mails", MAILS)))
    assert [(Path(origin).relative_to(tmp_path).as_posix(), dict(row)) for origin, row in rows] == [
        ("mails/ham/a.txt", {"text": "a", "label": "ham"}),
        ("mails/spam/1.txt", {"text": "one", "label": "spam"}),
        ("mails/ham/b.txt", {"text": "b", "label": "ham"}),
        ("mails/ham/old/c.txt", {"text": "c\u00e9", "label": "ham"}),
    ]


def test_files_in_the_folder_itself_have_no_label(tmp_path: Path) -> None:
    folder = write(tmp_path / "texts", {"2.txt": b"two", "1.txt": b"\xef\xbb\xbfone", ".hidden": b"\0"})
    assert [dict(row) for _, row in read_rows(folder)] == [{"text": "one"}, {"text": "two"}]


def test_the_first_encoding_that_fits_is_taken_and_counted(tmp_path: Path) -> None:
    files = {"a/1": b"plain", "a/2": "\u20ac".encode("cp1252"), "a/3": b"\x81\xe9", "a/4": "\u20ac".encode()}
    noted = Counter[str]()
    reader = Folder(encodings=("utf-8", "windows-1252", "latin-1"))
    context = ReaderContext(note=lambda what: noted.update([what]))
    rows = list(reader.build(context)(write(tmp_path / "mails", files)))
    assert [row["text"] for _, row in rows] == ["plain", "\u20ac", "\x81\u00e9", "\u20ac"]
    assert noted == {"files read as windows-1252": 1, "files read as latin-1": 1}


BROKEN: dict[str, tuple[dict[str, bytes], str, tuple[str, ...]]] = {
    "empty": ({".keep": b""}, "", ("the folder is empty",)),
    "a label without files": ({"a/1": b"x", "b/.keep": b""}, "b", ("the folder of this label is empty",)),
    "a file beside the labels": ({"a/1": b"x", "README": b"y"}, "README", ("beside the folders", "out of the way")),
    "not UTF-8": ({"a/1": b"caf\xe9"}, "a/1", ("not in utf-8", 'encodings = ["utf-8", "windows-1252", "latin-1"]')),
    "rows": ({"a/rows.jsonl": b"{}"}, "a/rows.jsonl", ("by its name this is not a text file (.jsonl)",)),
    "NUL": ({"a/1": b"a\0b"}, "a/1", ("a NUL character",)),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_cannot_be_rows_is_refused(tmp_path: Path, kind: str) -> None:
    files, place, said = BROKEN[kind]
    with pytest.raises(DataError) as refused:
        list(read_rows(write(tmp_path / "mails", files)))
    (problem,) = refused.value.problems
    assert problem.where == str(tmp_path / "mails" / place) and problem.hint
    assert all(text in str(problem) for text in said), str(problem)


def test_a_link_to_a_folder_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "mails", MAILS)
    (folder / "ham" / "again").symlink_to(folder)
    with pytest.raises(DataError, match="a link to a folder"):
        list(read_rows(folder))


def test_a_fingerprint_is_of_paths_and_contents(tmp_path: Path) -> None:
    first = fingerprint(write(tmp_path / "first", MAILS))
    assert first == fingerprint(write(tmp_path / "same", MAILS))
    assert (first["files"], first["bytes"]) == (4, 8)
    moved = {("spam/c.txt" if name == "ham/old/c.txt" else name): content for name, content in MAILS.items()}
    for number, other in enumerate(({**MAILS, "ham/a.txt": b"A"}, moved)):
        assert fingerprint(write(tmp_path / f"other{number}", other))["sha256"] != first["sha256"]


def test_a_folder_that_changes_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "mails", MAILS)
    with pytest.raises(DataError, match="the folder changed while it was read"), unchanged([folder]):
        write(folder, {"spam/2.txt": b"two"})
    with unchanged([folder]):
        list(read_rows(folder))


def test_a_file_is_not_a_folder(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "a"}\n')
    with pytest.raises(DataError, match="this is a file, not a folder"):
        list(read_rows(file, Folder()))
