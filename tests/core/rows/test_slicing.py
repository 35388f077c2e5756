"""Parts of the rows of files: what a list's slices give, and parts that meet leave nothing out."""

from __future__ import annotations

from collections.abc import Generator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tomli_w import dumps

from fttool.recipe.reading import load
from fttool.rows.datasets import read_dataset
from fttool.rows.slicing import sliced


def rows(count: int) -> Generator[tuple[str, dict[str, Any]]]:
    for number in range(count):
        yield f"f:{number}", {"n": number}


def numbers(split: str | None, count: int) -> list[int]:
    return [row["n"] for _, row in sliced(split, lambda _: rows(count))]


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        (None, range(10)),
        ("[:]", range(10)),
        ("[:3]", range(3)),
        ("train[7:]", range(7, 10)),
        ("[2:4]", range(2, 4)),
        ("[:25%]", range(2)),
        ("[50%:]", range(5, 10)),
        ("[8:200]", range(8, 10)),
        ("[5:5]", range(0)),
    ],
)
def test_a_part_of_the_rows(split: str | None, expected: range) -> None:
    assert numbers(split, 10) == list(expected)


@pytest.mark.parametrize("count", [1, 7, 10, 99, 101])
def test_parts_that_meet_hold_each_row_once(count: int) -> None:
    for borders in ([0, 5, 100], [0, 33, 66, 100], list(range(101))):
        parts = [numbers(f"[{low}%:{high}%]", count) for low, high in pairwise(borders)]
        assert [number for part in parts for number in part] == list(range(count))


def test_no_more_is_read_than_is_wanted() -> None:
    read: list[int] = []

    def noting(_: bool) -> Generator[tuple[str, dict[str, Any]]]:
        for origin, row in rows(1000):
            read.append(row["n"])
            yield origin, row

    assert len(list(sliced("[:3]", noting))) == 3 and len(read) <= 4


def test_a_recipe_reads_a_part_of_several_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        lines = "".join(f'{{"prompt": "{name}{number}", "completion": "x"}}\n' for number in range(10))
        (tmp_path / f"{name}.jsonl").write_text(lines)
    table = {"path": "*.jsonl", "format": "prompt-completion", "split": "[40%:60%]"}
    recipe = {"recipe": 1, "model": {"source": "builtin:tiny-chat"}, "data": {"train": [table]}}
    (tmp_path / "recipe.toml").write_text(dumps(recipe))
    loaded = load(tmp_path / "recipe.toml")
    read = read_dataset(loaded, loaded.recipe.data.train[0], ("data", "train", 0))
    assert [example.origin.rpartition("/")[2] for example in read.examples] == [
        *("a.jsonl:9", "a.jsonl:10"),
        *("b.jsonl:1", "b.jsonl:2"),
    ]
