"""The commands that `--help`, the README and the docs show, as a shell would hand them over."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from fttool.cli import VERBS, main
from fttool.cli.plugin_verbs import COMMANDS_GROUP

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    {*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("recipes/**/*.md")} - {ROOT / "CHANGELOG.md"}
)
NOT_OURS = ("VERB", "WORDS", "…", "acme-")
"""Any verb or command line, and those of the package that the pages about plugins speak of."""
OURS = [point.name for point in entry_points(group=COMMANDS_GROUP) if point.value.startswith("fttool_plugins.")]


@dataclass(frozen=True, slots=True)
class Command:
    """What stands behind `fttool`."""

    words: tuple[str, ...]
    stdin: str | None = None
    """The file behind `<`."""

    def __str__(self) -> str:
        return shlex.join(self.words) + (f" < {self.stdin}" if self.stdin else "")

    @property
    def verb(self) -> str:
        return self.words[0]

    @property
    def is_whole(self) -> bool:
        """False for one that only speaks of a verb and its options: `fttool run … --resume`, `fttool decay`."""
        named = any(re.search(r"\.toml$|^runs/|^(RUN|RECIPE)$", word) for word in self.words[1:])
        return named and "…" not in self.words


def command(line: str) -> Command:
    """Of a line behind `fttool `, without a remark behind it and what else stands there."""
    asked = re.split(r" {2,}| [|>] ?| && | # ", line)[0].replace("runs/*", "runs/a runs/b")
    words, _, stdin = asked.partition(" < ")
    return Command(tuple(shlex.split(words)), stdin.strip() or None)


def shown_on(page: Path) -> Iterator[Command]:
    """The commands in each block that is meant for a shell, and in each `…` within a sentence."""
    text = page.read_text(encoding="utf-8")
    lines = [line.strip().removeprefix("$ ") for line in _for_a_shell(text)]
    spoken = re.findall(r"`((?:\w+=\S+ )*fttool [^`\n]+)`", text)
    for line in [*lines, *spoken]:
        found = re.match(r"(?:\w+=\S+ )*(?:.*&& )?fttool (.+)", line)
        if found and not found[1].startswith(NOT_OURS):
            yield command(found[1])


def _for_a_shell(text: str) -> Iterator[str]:
    """The lines of the blocks that name a shell's language, or none."""
    language: str | None = None
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            language = line.strip().removeprefix("```") if language is None else None
        elif language in ("", "sh", "bash", "console", "text"):
            yield line


def shown_by_help(verb: str, capsys: pytest.CaptureFixture[str]) -> list[Command]:
    """The examples of `fttool VERB --help`, or of `fttool --help`."""
    if verb:
        text = help_of(verb, capsys)
    else:
        assert main(["--help"]) == 0
        text = capsys.readouterr().out
    return [command(line.removeprefix("  fttool ")) for line in text.splitlines() if line.startswith("  fttool ")]


def help_of(verb: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit):
        main([verb, "--help"])
    return capsys.readouterr().out


VERBS_OF_ALL = ("", *VERBS, *OURS)
"""Whose `--help` is read; the first is that of fttool itself."""
