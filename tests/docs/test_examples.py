"""Every command in `--help`, the README and the docs is one that fttool takes, as it stands."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from fttool.cli import main, parser

from .commands import OURS, PAGES, ROOT, VERBS_OF_ALL, Command, command, help_of, shown_by_help, shown_on


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
        monkeypatch.setattr(f"fttool_plugins.verbs.{name.replace('-', '_')}.verb_parser", verb_parser, raising=True)


def takes(asked: Command, capsys: pytest.CaptureFixture[str]) -> str:
    """Empty where fttool takes the words; else what it says."""
    try:
        code = main(asked.words)
    except (Taken, SystemExit) as ended:
        code = 0 if isinstance(ended, Taken) else ended.code
    said = capsys.readouterr()
    return "" if code == 0 else said.err


@pytest.mark.parametrize("verb", VERBS_OF_ALL)
def test_the_examples_of_help(verb: str, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> None:
    found = shown_by_help(verb, capsys)
    assert found
    request.getfixturevalue("only_parses")
    assert {str(asked): said for asked in found if (said := takes(asked, capsys))} == {}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_of_a_page(page: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> None:
    asked = list(shown_on(page))
    spoken = [one for one in asked if not one.is_whole and one.verb in VERBS_OF_ALL]
    unknown = [
        str(one)
        for one in spoken
        for flag in one.words[1:]
        if flag.startswith("--") and flag not in help_of(one.verb, capsys)
    ]
    assert unknown == []
    request.getfixturevalue("only_parses")
    whole = [one for one in asked if one not in spoken]
    assert {str(one): said for one in whole if (said := takes(one, capsys))} == {}


@pytest.mark.parametrize(
    ("page", "least"), [("README.md", 12), ("docs/first-run.md", 8), ("docs/classification.md", 6)]
)
def test_a_page_has_commands_that_are_held_to_this(page: str, least: int) -> None:
    assert sum(asked.is_whole for asked in shown_on(ROOT / page)) >= least


def test_a_block_is_read_to_its_own_end(tmp_path: Path) -> None:
    """Whatever other blocks stand before it."""
    page = tmp_path / "page.md"
    page.write_text("```toml\na = 1\n```\n\n```sh\nfttool run a.toml\n```\n\n```python\nfttool = 1\n```\n")
    assert list(shown_on(page)) == [Command(("run", "a.toml"))]


def test_what_fttool_does_not_take_is_found(only_parses: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert takes(command('generate RUN --system "Be brief." "Why?"'), capsys) == ""
    assert "unrecognized arguments: --warmth" in takes(command('generate RUN --warmth 1 "Why?"'), capsys)
    assert all(takes(command(line), capsys) for line in ("generat RUN", "run", "decay RUN"))
