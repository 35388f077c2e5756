"""`fttool formats`: every format that is installed with its example, and those that read a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fttool.api import Format
from fttool.cli import main
from fttool.plugins import Plugins

from ...rows import write_rows

KINDS = {kind.id(): kind for kind in Plugins.of().family("format") if issubclass(kind, Format)}


def test_each_format_has_a_line_and_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["formats"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, kind in KINDS.items():
        place = lines.index(name)
        assert len(lines[place + 1].split()) > 1 and "`{" not in lines[place + 1]
        shown = "".join(line.strip() for line in lines[place + 2 :][:1])
        assert json.loads(shown) == kind.example
    assert main(["formats", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert {row["id"]: row["example"] for row in data if row["distribution"] == "fttool"} == {
        name: kind.example for name, kind in KINDS.items()
    }


def test_the_formats_that_read_a_file_come_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair = {"prompt": "a", "completion": "b"}
    rows = [{**pair, "id": 1}, {"text": "It rains."}, {**pair, "completion": ""}, pair]
    write_rows(tmp_path / "rows.jsonl", rows)
    assert main(["formats", str(tmp_path / "rows.jsonl")]) == 0
    first, *_ = capsys.readouterr().out.splitlines()
    assert first.split()[:6] == ["prompt-completion", "reads", "2", "of", "4", "rows,"]
    assert "without 'id'; rows.jsonl:2: the row has no 'prompt'" in first
    assert main(["formats", str(tmp_path / "rows.jsonl"), "--json"]) == 0
    (text,) = [tried for tried in json.loads(capsys.readouterr().out) if tried["id"] == "text"]
    assert (text["read"], text["rows"], len(text["refused"])) == (1, 4, 3)
    assert text["refused"][0]["row"].endswith("rows.jsonl:1")


def test_a_file_that_cannot_be_read_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rows.jsonl").write_text("{broken\n")
    assert main(["formats", str(tmp_path / "rows.jsonl")]) == 4
    assert "rows.jsonl:1" in capsys.readouterr().err
