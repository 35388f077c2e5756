"""What strangers write does nothing to a terminal, whoever shows it."""

from __future__ import annotations

import contextlib
import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from fttool.cli import main
from fttool.errors import DataError, Problem
from fttool.visible import in_lines, show, tell, visible, visible_json
from fttool.watch import screen

HOSTILE = "\x1b]0;title\x07\x1b[2J\x1b[31mred\u202etxt.exe\r\x9b2J\u2066\u200e\U000e0041\x7f\udc80\u2028end\nFORGED"
TAME = "naïve 日本語 \t🙂 👩\u200d👩\u200d👧 می\u200cخواهم \xa0 θ₀ → −1\n"


def commands(text: str) -> list[str]:
    """The characters in it that a terminal obeys or a reader cannot see, listed by hand."""
    bidi = [*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C]
    unseen = [0x2028, 0x2029, 0xFEFF, 0xAD, *range(0xE0000, 0xE0080), *range(0xD800, 0xE000)]
    forbidden = {*range(0x20), *range(0x7F, 0xA0), *bidi, *unseen} - {0x0A, 0x09}
    return [char for char in text if ord(char) in forbidden]


def forged(text: str) -> list[str]:
    """The lines that a line break in a name has begun."""
    return [line for line in text.splitlines() if line.startswith("FORGED")]


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
    assert not forged(str(error)) and len(str(error).splitlines()) == 2


def test_no_lines_are_not_an_empty_one(capsys: pytest.CaptureFixture[str]) -> None:
    show()
    tell()
    assert capsys.readouterr().out == ""
    show("")
    tell("")
    assert capsys.readouterr().out == "\n\n"


@pytest.mark.parametrize("kind", [screen.Lines, screen.Json, screen.Bar])
def test_a_screen_shows_them_as_text(kind: Any, capsys: pytest.CaptureFixture[str]) -> None:
    shown = kind()
    shown.stage(HOSTILE)
    shown.note(HOSTILE, HOSTILE)
    assert list(shown.track([1], HOSTILE)) == [1]
    shown.started(2, 0)
    shown.logged(1, {"loss": 1.0, "lr": 0.1, "tokens_per_second": 3.0})
    shown.logged(1, {f"eval_{HOSTILE}": 1.0})
    shown.stopped()
    shown.finished({HOSTILE: HOSTILE}, in_lines(["r: finished", HOSTILE]))
    shown.failed([Problem(HOSTILE)], 1)
    captured = capsys.readouterr()
    assert "red" in captured.out + captured.err
    assert not commands(captured.out) and not commands(captured.err)
    assert not forged(captured.out) and not forged(captured.err)


def test_the_command_line_shows_them_as_text(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    from fttool import cli

    monkeypatch.setattr(sys.modules["fttool.cli"], "_answer", lambda words: (_ for _ in ()).throw(OSError(HOSTILE)))
    assert cli.main(["validate"]) == 1
    said = capsys.readouterr().err
    assert not commands(said) and not forged(said)


WORDS = [
    ["{}"],
    ["validate", "r.toml", "--{}"],
    ["validate", "{}.toml"],
    ["validate", "{}/r.toml"],
    *([verb, "{}"] for verb in ("compare", "verify", "generate", "merge")),
    ["merge", "r", "--alpha", "{}"],
    ["render", "r.toml", "--to", "{}"],
    ["plugins", "show", "{}"],
    ["plugins", "new", "{}"],
    ["init", "{}.toml"],
    ["init", "new.toml", "--task", "{}"],
    ["validate", "r.toml", "--set", "{}"],
    ["validate", "r.toml", "--set", "{}=1"],
    *(
        ["validate", "r.toml", "--set", f"{key}={{}}"]
        for key in ("schedule.name", "task.name", "run.name", "run.seed", "data.train.0.path", "data.train.0.format")
    ),
    *(
        ["validate", "r.toml", "--set", f'{key}=["{{}}"]']
        for key in ("tracking.to", "plugins.observe", "evaluation.metrics", "data.train.0.ignore")
    ),
    ["validate", "key.toml"],
    ["validate", "rows.toml"],
    ["validate", "columns.toml"],
]


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_what_verbs_are_given_forges_no_line(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In words, recipes' keys and values, paths, columns and roles."""
    monkeypatch.chdir(tmp_path)
    hostile = "\x1b[31m\u202e\u200b\x9b\nFORGED"
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
    kinds = {"good": {}, "columns": {hostile: 1}, "rows": {"messages": [{**turns[0], "role": hostile}, turns[1]]}}
    for name, more in kinds.items():
        Path(f"{name}.jsonl").write_text(json.dumps({"messages": turns, **more}) + "\n", encoding="utf-8")
        recipe: dict[str, Any] = {"recipe": 1, "model": {"source": "builtin:tiny-chat"}, "data": {}}
        recipe["data"]["train"] = [{"path": f"{name}.jsonl", "format": "messages"}]
        Path("r.toml" if name == "good" else f"{name}.toml").write_text(tomli_w.dumps(recipe), encoding="utf-8")
    Path("key.toml").write_text(tomli_w.dumps({"recipe": 1, "run": {hostile: 1}}), encoding="utf-8")
    with contextlib.suppress(SystemExit):
        main([word.format(hostile) for word in words])
    said = capsys.readouterr()
    assert said.out + said.err
    assert not commands(said.out) and not commands(said.err)
    assert not forged(said.out) and not forged(said.err)


def test_whoever_prints_prints_through_here() -> None:
    """But for JSON, which escapes by itself, and lines that nobody else has a word in; cards quote code."""
    root = Path(__file__).parents[2]
    files = [
        file
        for room in ("core", "plugins")
        for file in (root / room).glob("**/*.py")
        if "testing" not in file.parts and file.name != "card.py"
    ]
    lines = [line.strip() for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    prints = [line for line in lines if line.startswith("print(")]
    fine = (
        "visible",
        "in_lines",
        "json.dumps",
        "_shown(",
        "version(",
        '"[]"',
        "print(text, end",
        "SCRIPTS[",
        "on_one_line",
    )
    assert [line for line in prints if not any(word in line for word in fine)] == []
