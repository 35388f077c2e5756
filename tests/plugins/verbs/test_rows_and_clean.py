"""`fttool rows` lists what goes, `fttool clean` writes what stays: together they are the file."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest
from tomli_w import dumps

from fttool.cli import main

FILTERS = ["exact-duplicates", {"name": "words", "min": 2}]


def line(question: str, answer: str, *, odd: bool = False) -> bytes:
    """A row as bytes, spelled in an odd way where asked."""
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    text = json.dumps({"messages": turns}, ensure_ascii=odd, separators=(" ,  ", " : ") if odd else None)
    return text.encode() + (b"  \r\n" if odd else b"\n")


@pytest.fixture
def lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Rows good and bad, of which every third is spelled oddly, in `rows.jsonl` of the current folder."""
    monkeypatch.chdir(tmp_path)
    draw = random.Random(4)
    written = [line(f"Frage {n} ß?", f"Antwort {n} „gut“", odd=n % 3 == 0) for n in range(20)]
    written += [line("Short?", "one"), written[3], b'{"other": 1}\n', line("Empty?", " ")]
    draw.shuffle(written)
    written.insert(5, b"\n")
    Path("rows.jsonl").write_bytes(b"".join(written).rstrip(b"\r\n"))
    return written


def recipe(**table: Any) -> str:
    data = {"train": [{"path": "rows.jsonl", "on_bad_row": "drop", "max_bad_rows": 5, **table}], "eval_share": 0.2}
    tables = {"recipe": 1, "model": {"source": "builtin:tiny-chat"}, "task": "sft", "data": data, "filters": FILTERS}
    Path("my.toml").write_text(dumps(tables))
    return "my.toml"


def gone(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert main(["rows", "my.toml", "--json", *words]) == 0
    return [json.loads(text) for text in capsys.readouterr().out.splitlines()]


def test_what_is_written_and_what_is_listed_make_up_the_file(
    lines: list[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    recipe()
    listed = {int(row["row"].rpartition(":")[2]) for row in gone(capsys)}
    assert main(["clean", "my.toml", "-o", "kept.jsonl", "-q"]) == 0
    assert "wrote kept.jsonl: 20 rows; 4 were dropped or bad" in capsys.readouterr().out
    expected = [text for number, text in enumerate(lines, 1) if text.strip() and number not in listed]
    assert len(listed) == 4
    assert Path("kept.jsonl").read_bytes().rstrip(b"\r\n") == b"".join(expected).rstrip(b"\r\n"), "byte for byte"


def test_rows_are_chosen_by_their_filter_or_reason(lines: list[bytes], capsys: pytest.CaptureFixture[str]) -> None:
    recipe()
    (copy,) = gone(capsys, "--dropped", "duplicates")
    assert (copy["by"], copy["dataset"]) == ("exact-duplicates", "rows") and "Frage 3 ß?" in copy["excerpt"]
    assert [row["by"] for row in gone(capsys, "--dropped", "fewer than")] == ["words"]
    assert {row["by"] for row in gone(capsys, "--dropped", "BAD")} == {"bad"}
    assert main(["rows", "my.toml", "--dropped", "duplicate"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "1  same row as an earlier row  [exact-duplicates]" and shown[-1] == "1 row is dropped or bad"
    assert main(["rows", "my.toml", "--dropped", "nonsense"]) == 2
    assert "rows were dropped by: bad, exact-duplicates, words" in capsys.readouterr().err


def test_a_run_has_the_same_list(lines: list[bytes], capsys: pytest.CaptureFixture[str]) -> None:
    recipe()
    assert main(["run", "my.toml", "-q", "--no-save", "--set", "run.max_steps=2", "--set", "evaluation.samples=0"]) == 0
    of_recipe = gone(capsys)
    assert main(["rows", "runs/my", "--json"]) == 0
    assert [json.loads(text) for text in capsys.readouterr().out.splitlines()] == of_recipe
    assert main(["rows", "."]) == 2
    assert "is not a run directory" in capsys.readouterr().err


def test_packed_files_are_unpacked_and_arrays_become_lines(
    lines: list[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    good = [text for text in lines if text.strip()]
    Path("rows.jsonl.gz").write_bytes(gzip.compress(b"".join(good)))
    recipe(path="rows.jsonl.gz")
    assert main(["clean", "my.toml", "-o", "from_gz.jsonl", "-q"]) == 0
    Path("array.json").write_bytes(b"[" + b",".join(good) + b"]")
    recipe(path="array.json")
    assert main(["clean", "my.toml", "-o", "from_array.jsonl", "-q"]) == 0
    kept, objects = (Path(name).read_bytes().splitlines() for name in ("from_gz.jsonl", "from_array.jsonl"))
    assert {text.strip() for text in kept} <= {text.strip() for text in good} and len(kept) == 20
    assert [json.loads(text) for text in kept] == [json.loads(text) for text in objects]


def test_nothing_is_overwritten(lines: list[bytes], capsys: pytest.CaptureFixture[str]) -> None:
    recipe()
    before = Path("rows.jsonl").read_bytes()
    assert main(["clean", "my.toml", "-o", "rows.jsonl"]) == 2
    assert "it is never overwritten" in capsys.readouterr().err
    assert main(["clean", "my.toml", "-o", "no/such/folder.jsonl"]) == 2
    assert Path("rows.jsonl").read_bytes() == before


def test_a_row_that_is_split_is_written_once(lines: list[bytes], capsys: pytest.CaptureFixture[str]) -> None:
    Path("rows.jsonl").write_bytes(line("Long?", "word " * 120) + line("Short?", "two words"))
    recipe()
    options = ["--set", "batching.max_length=64", "--set", "batching.too_long=split"]
    assert main(["clean", "my.toml", "-o", "kept.jsonl", "-q", *options]) == 0
    assert Path("kept.jsonl").read_bytes() == Path("rows.jsonl").read_bytes()


def test_rows_that_filters_change_are_said(lines: list[bytes], capsys: pytest.CaptureFixture[str]) -> None:
    Path("rows.jsonl").write_bytes(line("Who?", "write to ann@example.org now") + line("Short?", "two words"))
    recipe()
    masked = 'filters=[{name="personal-data",action="mask"}]'
    assert main(["clean", "my.toml", "-o", "kept.jsonl", "-q", "--set", masked]) == 0
    assert "filters change rows when they are read, and not in this file: 1 " in capsys.readouterr().err
    assert b"ann@example.org" in Path("kept.jsonl").read_bytes()


def test_flagged_and_changed_rows_are_listed_by_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a recipe and of its run; a changed row is shown as it is learned."""
    monkeypatch.chdir(tmp_path)
    written = [line(f"Question {n}?", f"It is answer {n}.") for n in range(12)]
    written[3] = line("Who?", "Ask jane@example.com, she knows.")
    written[7] = written[2]
    Path("rows.jsonl").write_bytes(b"".join(written))
    filters = [{"name": "exact-duplicates", "action": "flag"}, {"name": "personal-data", "action": "mask"}]
    data = {"train": [{"path": "rows.jsonl"}]}
    Path("my.toml").write_text(
        dumps({"recipe": 1, "model": {"source": "builtin:tiny-chat"}, "data": data, "filters": filters})
    )
    (flagged,), (changed,) = gone(capsys, "--flagged"), gone(capsys, "--changed")
    assert (flagged["row"], flagged["like"], flagged["by"], flagged["changed"]) == (
        "rows.jsonl:8",
        "rows.jsonl:3",
        "exact-duplicates",
        False,
    )
    assert (changed["row"], changed["reason"], changed["changed"]) == ("rows.jsonl:4", "has an e-mail address", True)
    assert changed["excerpt"] == "Who? → Ask [e-mail], she knows."
    assert gone(capsys) == [] and gone(capsys, "--changed", "E-MAIL") == [changed]
    assert main(["rows", "my.toml", "--flagged"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "1 row is flagged"
    assert main(["rows", "my.toml", "--flagged", "nonsense"]) == 2
    assert "rows were flagged by: exact-duplicates" in capsys.readouterr().err
    assert main(["rows", "my.toml", "--flagged", "--changed"]) == 2
    assert main(["run", "my.toml", "-q", "--no-save", "--set", "run.max_steps=2"]) == 0
    assert sorted(Path("runs/my/flagged.jsonl").read_text().splitlines()) == sorted(
        json.dumps(row, ensure_ascii=False) for row in (flagged, changed)
    )
    capsys.readouterr()
    assert main(["rows", "runs/my", "--json", "--changed"]) == 0
    assert json.loads(capsys.readouterr().out) == changed
