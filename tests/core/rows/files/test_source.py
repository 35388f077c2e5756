"""What a dataset's `path` names: files, folders, patterns and lists of them, and one hash for all."""

from __future__ import annotations

from pathlib import Path

import pytest

from fttool.contracts.recipe import RowsTable
from fttool.errors import DataError
from fttool.rows.files.source import fingerprint, fingerprint_of, named_paths


def files(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f'{{"text": "{name}"}}\n')


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["b.jsonl"], ["b.jsonl"]),
        (["b.jsonl", "a.jsonl", "b.jsonl"], ["b.jsonl", "a.jsonl"]),
        (["*.jsonl"], ["[x].jsonl", "a.jsonl", "b.jsonl"]),
        (["b.jsonl", "?.jsonl"], ["b.jsonl", "a.jsonl"]),
        (["**/*.jsonl"], ["[x].jsonl", "a.jsonl", "b.jsonl", "deep/er/c.jsonl"]),
        (["deep/*"], ["deep/er"]),
        (["[x].jsonl"], ["[x].jsonl"]),
        (["[ab].jsonl"], ["a.jsonl", "b.jsonl"]),
    ],
)
def test_patterns_and_lists_in_their_order(tmp_path: Path, patterns: list[str], expected: list[str]) -> None:
    files(tmp_path, "b.jsonl", "a.jsonl", "deep/er/c.jsonl", ".hidden/d.jsonl", ".e.jsonl", "[x].jsonl")
    assert [path.relative_to(tmp_path).as_posix() for path in named_paths(tmp_path, patterns)] == expected
    absolute = [str(tmp_path / pattern) for pattern in patterns]
    assert named_paths(Path("/"), absolute) == named_paths(tmp_path, patterns)


def test_a_pattern_that_fits_nothing(tmp_path: Path) -> None:
    files(tmp_path, "rows/a.json")
    with pytest.raises(DataError, match=r"no file fits this pattern\n +'.*rows' has 'a.json'"):
        named_paths(tmp_path, ["rows/*.jsonl"])
    with pytest.raises(DataError, match=r"no file fits this pattern\n +did you mean '.*rows'"):
        named_paths(tmp_path, ["row/*.jsonl"])


def test_one_hash_for_several_files(tmp_path: Path) -> None:
    files(tmp_path, "a.jsonl", "b.jsonl", "more/c.jsonl")
    paths = [tmp_path / "a.jsonl", tmp_path / "b.jsonl", tmp_path / "more"]
    together = fingerprint_of(paths)
    assert (together["files"], together["bytes"]) == (3, sum(int(fingerprint(path)["bytes"]) for path in paths))
    assert fingerprint_of(paths[:1]) == fingerprint(paths[0])
    assert fingerprint_of(paths[::-1])["sha256"] != together["sha256"]
    (tmp_path / "b.jsonl").write_text('{"text": "other"}\n')
    assert fingerprint_of(paths)["sha256"] != together["sha256"]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("docs/rows.jsonl.gz", "rows"),
        ("rows.csv.zst", "rows"),
        ("docs/part-*.jsonl", "part"),
        ("docs/*.jsonl", "docs"),
        ("*.jsonl", "rows"),
        (["b.jsonl", "a.jsonl"], "b"),
        ("mails", "mails"),
    ],
)
def test_a_dataset_is_called_after_what_it_names(path: str | list[str], name: str) -> None:
    assert RowsTable.model_construct(path=path if isinstance(path, str) else tuple(path), name=None).dataset == name
