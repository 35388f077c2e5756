"""`fttool preview` reads what it shows, and shows what a run has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tomli_w import dumps

from fttool.cli import main

SHOWN = ["--rows", "2", "--json"]


def recipe_of(folder: Path, recipe: dict[str, Any], rows: list[str], **data: Any) -> str:
    (folder / "many.jsonl").write_text("\n".join(rows) + "\n")
    tables = {"train": [{"path": "many.jsonl"}], **data}
    (folder / "many.toml").write_text(dumps({**recipe, "data": tables}))
    return str(folder / "many.toml")


def talk(number: int, **more: Any) -> str:
    turns = [{"role": "user", "content": f"Q{number}?"}, {"role": "assistant", "content": f"A{number}."}]
    return json.dumps({"messages": turns, **more})


def shown(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[list[str], str]:
    assert main(["preview", *words]) == 0
    said = capsys.readouterr()
    return [json.loads(line)["row"].rpartition(":")[2] for line in said.out.splitlines()], said.err


def test_only_the_beginning_is_read(
    tmp_path: Path, fttool_recipe: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    file = recipe_of(tmp_path, fttool_recipe, [*map(talk, range(1_500)), "{not json"])
    rows, said = shown([file, *SHOWN], capsys)
    assert rows == ["1", "2"] and "note: only the first 1,002 rows of each dataset were read" in said
    assert main(["preview", file, "--row", "many.jsonl:7"]) == 4, "a line that is named may be anywhere"


def test_all_is_read_where_the_beginning_is_not_enough(
    tmp_path: Path, fttool_recipe: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "held.jsonl").write_text("".join(talk(number) + "\n" for number in range(1_200)))
    held = {"eval": [{"path": "held.jsonl"}]}
    file = recipe_of(tmp_path, fttool_recipe, [*map(talk, range(1_300))], **held)
    rows, said = shown([file, *SHOWN], capsys)
    assert rows == ["1201", "1202"] and "only the first" not in said

    # Many bad rows in the beginning are not many among all.
    bad = {"train": [{"path": "many.jsonl", "on_bad_row": "drop"}]}
    file = recipe_of(tmp_path, fttool_recipe, [*["{}"] * 60, *map(talk, range(1_300))], **bad)
    rows, said = shown([file, *SHOWN], capsys)
    assert rows == ["61", "62"] and "only the first" not in said


def test_filters_see_all_rows(
    tmp_path: Path, fttool_recipe: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    file = recipe_of(tmp_path, fttool_recipe, [*map(talk, range(1_100)), "{not json"])
    assert main(["preview", file, "--set", 'filters=["exact-duplicates"]']) == 4
    capsys.readouterr()
