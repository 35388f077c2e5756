"""What strangers write does nothing to a terminal, whoever shows it."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest

from fttool.errors import DataError, Problem
from fttool.runs import screen
from fttool.visible import visible, visible_json

HOSTILE = "\x1b]0;title\x07\x1b[2J\x1b[31mred\u202etxt.exe\r\x9b2J\u2066\u200e\U000e0041\x7f\udc80\u2028end"
TAME = "naïve 日本語 \t🙂 👩\u200d👩\u200d👧 می\u200cخواهم \xa0 θ₀ → −1\n"


def commands(text: str) -> list[str]:
    """The characters in it that a terminal obeys or a reader cannot see, listed by hand."""
    bidi = [*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C]
    unseen = [0x2028, 0x2029, 0xFEFF, 0xAD, *range(0xE0000, 0xE0080), *range(0xD800, 0xE000)]
    forbidden = {*range(0x20), *range(0x7F, 0xA0), *bidi, *unseen} - {0x0A, 0x09}
    return [char for char in text if ord(char) in forbidden]


def test_commands_are_written_out_and_text_is_left_alone() -> None:
    assert commands(HOSTILE) and not commands(visible(HOSTILE))
    assert visible("\x1b[31m\u202e\x9b") == r"\x1b[31m\u202e\x9b"
    assert visible(TAME) == TAME


def test_no_character_at_all_gets_through_and_json_means_what_it_meant() -> None:
    draw = random.Random(17)
    for _ in range(300):
        text = "".join(chr(draw.choice([draw.randrange(0x100), draw.randrange(0x110000)])) for _ in range(40))
        assert not commands(visible(text))
        written = visible_json(json.dumps({text: [text]}, ensure_ascii=False))
        assert not commands(written)
        assert json.loads(written) == {text: [text]}


def test_a_problem_shows_them_as_text() -> None:
    error = DataError(Problem(f"column {HOSTILE}", where=f"{HOSTILE}.jsonl:3", hint=HOSTILE))
    assert not commands(str(error)) and r"\x1b[31m" in str(error)


@pytest.mark.parametrize("kind", [screen.Lines, screen.Events, screen.Bar])
def test_a_screen_shows_them_as_text(kind: Any, capsys: pytest.CaptureFixture[str]) -> None:
    shown = kind()
    shown.stage(HOSTILE)
    shown.note(HOSTILE)
    assert list(shown.track([1], HOSTILE)) == [1]
    shown.started(2, 0)
    shown.logged(1, {"loss": 1.0, "lr": 0.1, "tokens_per_second": 3.0})
    shown.logged(1, {f"eval_{HOSTILE}": 1.0})
    shown.stopped()
    shown.finished({HOSTILE: HOSTILE}, HOSTILE)
    shown.failed([Problem(HOSTILE)], 1)
    captured = capsys.readouterr()
    assert "red" in captured.out + captured.err
    assert not commands(captured.out) and not commands(captured.err)


def test_the_command_line_shows_them_as_text(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    from fttool import cli

    monkeypatch.setattr(sys.modules["fttool.cli"], "_answer", lambda words: (_ for _ in ()).throw(OSError(HOSTILE)))
    assert cli.main(["validate"]) == 1
    assert not commands(capsys.readouterr().err)


def test_whoever_prints_prints_through_here() -> None:
    """But for JSON, which writes such characters out itself, and lines that nobody else has a word in."""
    root = Path(__file__).parents[2]
    files = [
        file for room in ("core", "plugins") for file in (root / room).glob("**/*.py") if "testing" not in file.parts
    ]
    lines = [line.strip() for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    prints = [line for line in lines if line.startswith("print(")]
    fine = ("visible", "json.dumps", "_shown(", "version(", '"[]"', "print(text, end")
    assert [line for line in prints if not any(word in line for word in fine)] == []
