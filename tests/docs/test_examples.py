"""Every command in `--help`, the README and the docs is one that fttool takes, as it stands."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from fttool.cli import VERBS, main, parser
from fttool.cli.plugin_verbs import COMMANDS_GROUP

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    {*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("recipes/**/*.md")} - {ROOT / "CHANGELOG.md"}
)
NOT_OURS = ("VERB", "…", "acme-")
"""Any verb, and those of the package that the pages about plugins speak of."""
OURS = [point.name for point in entry_points(group=COMMANDS_GROUP) if point.value.startswith("fttool_plugins.")]


class Taken(BaseException):
    """The parser has taken the words."""


@pytest.fixture
def only_parses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each verb end as soon as its words are understood."""

    class Parses(parser.Parser):
        def parse_args(self, *words: object, **more: object) -> argparse.Namespace:
            super().parse_args(*words, **more)  # type: ignore[arg-type]
            raise Taken

    made = parser.verb_parser

    def verb_parser(*words: str) -> parser.Parser:
        one = made(*words)
        one.__class__ = Parses
        return one

    monkeypatch.setattr("fttool.cli.verb_parser", verb_parser)
    for name in OURS:
        monkeypatch.setattr(f"fttool_plugins.verbs.{name}.verb_parser", verb_parser, raising=True)


def takes(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Empty where fttool takes the words; else what it says."""
    try:
        code = main(words)
    except (Taken, SystemExit) as ended:
        code = 0 if isinstance(ended, Taken) else ended.code
    said = capsys.readouterr()
    return "" if code == 0 else said.err


def commands(text: str) -> Iterator[list[str]]:
    """The words behind `fttool ` in each line of a code block, and in each `…` within a sentence."""
    blocks = re.findall(r"```(?:sh|bash|console|text)?\n(.*?)```", text, re.DOTALL)
    lines = [line.strip().removeprefix("$ ") for block in blocks for line in block.splitlines()]
    spoken = re.findall(r"`((?:\w+=\S+ )*fttool [^`\n]+)`", text)
    for line in [*lines, *spoken]:
        found = re.match(r"(?:\w+=\S+ )*(?:.*&& )?fttool (.+)", line)
        if found:
            yield words_of(found[1])


def words_of(command: str) -> list[str]:
    """The words that a shell would hand over, without a remark behind them and what else stands in the line."""
    return shlex.split(re.split(r" {2,}| [|<>] ?| && | # ", command)[0].replace("runs/*", "runs/a runs/b"))


def is_whole(words: list[str]) -> bool:
    """False for one that only speaks of a verb and its options: `fttool run … --resume`, `fttool decay`."""
    named = any(re.search(r"\.toml$|^runs/|^(RUN|RECIPE)$", word) for word in words[1:])
    return named and "…" not in words


def helps(verb: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit):
        main([verb, "--help"])
    return capsys.readouterr().out


@pytest.mark.parametrize("verb", ["", *VERBS, *OURS])
def test_the_examples_of_help(verb: str, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> None:
    if verb:
        shown = helps(verb, capsys)
    else:
        assert main(["--help"]) == 0
        shown = capsys.readouterr().out
    found = [words_of(line.removeprefix("  fttool ")) for line in shown.splitlines() if line.startswith("  fttool ")]
    assert found, shown
    request.getfixturevalue("only_parses")
    assert {shlex.join(words): said for words in found if (said := takes(words, capsys))} == {}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_of_a_page(page: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> None:
    asked = [words for words in commands(page.read_text(encoding="utf-8")) if not words[0].startswith(NOT_OURS)]
    spoken = [words for words in asked if not is_whole(words) and words[0] in (*VERBS, *OURS)]
    unknown = [
        words for words in spoken for flag in words[1:] if flag.startswith("--") and flag not in helps(words[0], capsys)
    ]
    assert unknown == []
    request.getfixturevalue("only_parses")
    whole = [words for words in asked if words not in spoken]
    assert {shlex.join(words): said for words in whole if (said := takes(words, capsys))} == {}


def test_the_readme_has_commands_that_are_held_to_this() -> None:
    assert sum(map(is_whole, commands((ROOT / "README.md").read_text(encoding="utf-8")))) >= 12


def test_what_fttool_does_not_take_is_found(only_parses: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert takes(["generate", "RUN", "--system", "Be brief.", "Why?"], capsys) == ""
    assert "unrecognized arguments: --warmth" in takes(["generate", "RUN", "--warmth", "1", "Why?"], capsys)
    assert takes(["generat", "RUN"], capsys) and takes(["run"], capsys) and takes(["decay", "RUN"], capsys)
