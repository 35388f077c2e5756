"""Verbs of plugins in `fttool --help`: one line each from a docstring that is read and not run; and their own help."""

from __future__ import annotations

import re
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from fttool.cli import COMMANDS_GROUP, main

from ..distributions import install

OURS = [point.name for point in entry_points(group=COMMANDS_GROUP) if point.value.startswith("fttool_plugins.")]

MODULES = {
    "documented": '"""Say how far it is.\n\nMore follows."""\nraise RuntimeError("help must not run this")',
    "silent": "def main(words): return 0",
    "broken": "def main(:",
    "long": f'"""{"Word " * 40}."""',
}


def lines(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """What help says of each verb."""
    assert main(["--help"]) == 0
    return dict(re.findall(r"^ {2}([a-z-]+) {2,}(?!fttool)(.+)$", capsys.readouterr().out, re.MULTILINE))


def test_each_verb_has_a_line_whatever_its_module_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    points = {name: f"far_{name}:main" for name in MODULES} | {"gone": "far_gone.inner:main"}
    install(tmp_path, "far", points, group=COMMANDS_GROUP, **{f"far_{name}": text for name, text in MODULES.items()})
    monkeypatch.syspath_prepend(str(tmp_path))
    said = lines(capsys)
    assert said["documented"] == "say how far it is"
    assert said["silent"] == said["broken"] == said["gone"] == "from far"
    assert said["long"].endswith(" …") and len(said["long"]) <= 66
    assert not {f"far_{name}" for name in MODULES} & sys.modules.keys()


def test_our_own_verbs_say_what_they_do(capsys: pytest.CaptureFixture[str]) -> None:
    said = lines(capsys)
    assert {"merge", "importance"} <= set(OURS) <= said.keys()
    assert said["merge"] == "mix a run's final weights with those it started from (WiSE-FT)"
    assert not [name for name in OURS if said[name].startswith("from ")]


@pytest.mark.parametrize("verb", OURS)
def test_their_help_teaches_by_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([verb, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "examples:" in shown and f"fttool {verb} " in shown and "--debug" in shown
