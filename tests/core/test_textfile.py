"""Why a path cannot be opened, with the nearest names; which encoding a file has."""

import os
from pathlib import Path

import pytest

from fttool.textfile import convert_hint, foreign_encoding, obstacle, unreadable


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data" / "train").mkdir(parents=True)
    for name in ["rows.jsonl", "Rows-long.jsonl", "notes.txt", "train/part-1.jsonl"]:
        (tmp_path / "data" / name).write_text("{}")
    return tmp_path


def test_a_file_that_can_be_opened_has_no_obstacle(folder: Path) -> None:
    assert obstacle(folder / "data" / "rows.jsonl") is None


@pytest.mark.parametrize(
    ("path", "message", "hint"),
    [
        ("data/rosw.jsonl", "no such file", "did you mean '{data}/rows.jsonl', '{data}/Rows-long.jsonl'?"),
        ("data/notes", "no such file", "did you mean '{data}/notes.txt'?"),
        (
            "data/ROWS-LONG.jsonl",
            "no such file",
            "did you mean '{data}/Rows-long.jsonl', '{data}/rows.jsonl'?",
        ),
        ("data/zzz.jsonl", "no such file", "'{data}' has 'Rows-long.jsonl', 'rows.jsonl'"),
        (
            "data/zzz.csv",
            "no such file",
            "'{data}' has 'Rows-long.jsonl', 'notes.txt', 'rows.jsonl', 'train'",
        ),
        ("data/trian/x/y.jsonl", "the folder '{data}/trian' does not exist", "did you mean '{data}/train'?"),
        ("data/notes.txt/y.jsonl", "'{data}/notes.txt' is a file, not a folder", ""),
        ("data", "this is a folder, not a file", "name a file in it: 'Rows-long.jsonl', 'notes.txt',"),
    ],
)
def test_a_wrong_path_names_what_is_there(folder: Path, path: str, message: str, hint: str) -> None:
    problem = obstacle(folder / path)
    assert problem
    data = str(folder / "data")
    assert problem.message == message.format(data=data)
    assert problem.where == str(folder / path)
    expected = hint.format(data=data)
    assert problem.hint == expected or (expected.endswith(",") and problem.hint.startswith(expected))


def test_empty_folders(tmp_path: Path) -> None:
    in_it, itself = obstacle(tmp_path / "x"), obstacle(tmp_path)
    assert in_it
    assert in_it.hint == f"'{tmp_path}' is empty"
    assert itself
    assert itself.hint == "it is empty; name a file"


def test_links_pipes_and_impossible_paths(tmp_path: Path) -> None:
    link, loop, pipe = tmp_path / "link", tmp_path / "loop", tmp_path / "pipe"
    link.symlink_to("gone.jsonl")
    loop.symlink_to(loop)
    os.mkfifo(pipe)
    messages = {path.name: obstacle(path) for path in (link, loop, pipe)}
    assert messages["link"]
    assert messages["link"].message == "this is a link to 'gone.jsonl', which does not exist"
    assert messages["loop"]
    assert messages["loop"].message == "cannot be read: Too many levels of symbolic links"
    assert messages["pipe"]
    assert messages["pipe"].message == "this is a pipe or a device, not a file"
    nul = obstacle(Path("a\0b"))
    assert nul
    assert nul.message == "a path cannot hold a NUL character"
    assert nul.where == "'a\\x00b'"
    long = obstacle(tmp_path / ("x" * 5000))
    assert long
    assert long.message == "cannot be read: File name too long"


def test_a_relative_path_in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text("{}")
    problem = obstacle(Path("rows.json"))
    assert problem
    assert problem.hint == "did you mean 'rows.jsonl'?"


def test_an_operating_system_error_is_told(tmp_path: Path) -> None:
    problem = unreadable(tmp_path / "a b", PermissionError(13, "Permission denied"))
    assert problem.message == "cannot be read: Permission denied"
    assert problem.hint == f"look at its rights: ls -l '{tmp_path}/a b'"


@pytest.mark.parametrize(
    ("head", "encoding"),
    [
        ("{}".encode("utf-16"), "UTF-16"),
        ("{}".encode("utf-32"), "UTF-32"),
        (b"\xfe\xff\x00{", "UTF-16"),
        (b"\x00\x00\xfe\xff\x00\x00\x00{", "UTF-32"),
        ('{"a": 1}'.encode("utf-16-le"), "UTF-16LE"),
        ('{"a": 1}'.encode("utf-16-be"), "UTF-16BE"),
        (b'\xef\xbb\xbf{"a": 1}', None),
        ('{"a": "é"}'.encode(), None),
        ('{"a": "é"}'.encode("latin-1"), None),
        (b"", None),
        (b"{", None),
        (b"\0\0\0\0", None),
        (b'{"a": "\0"}', None),
    ],
)
def test_the_encoding_that_a_file_gives_away(head: bytes, encoding: str | None) -> None:
    assert foreign_encoding(head) == encoding


def test_the_command_that_converts_a_file_is_safe_to_paste(tmp_path: Path) -> None:
    hint = convert_hint(tmp_path / "a b.jsonl", "UTF-16")
    assert hint.endswith(f"iconv -f UTF-16 -t UTF-8 '{tmp_path}/a b.jsonl' > '{tmp_path}/a b.utf8.jsonl'")
