"""Verbs of plugins: a line each in `fttool --help`, from a docstring that is read and not run; and whose a name is."""

from __future__ import annotations

import json
import re
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from fttool.cli import VERBS, main
from fttool.cli.plugin_verbs import COMMANDS_GROUP

from ..distributions import install

OURS = [point.name for point in entry_points(group=COMMANDS_GROUP) if point.value.startswith("fttool_plugins.")]

MODULES = {
    "documented": '"""Say how far it is.\n\nMore follows."""\nraise RuntimeError("help must not run this")',
    "silent": "def main(words): return 0",
    "broken": "def main(:",
    "long": f'"""{"Word " * 40}."""',
}


def lines(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """What help says of each verb, on a terminal on which no line is wrapped."""
    with pytest.MonkeyPatch.context() as wide:
        wide.setenv("COLUMNS", "200")
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
    assert said["long"].endswith(" …") and len(said["long"]) <= 120
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


# -- whose a name is -----------------------------------------------------------------------------------------------

RAN = "import pathlib\ndef main(words):\n    print('a stranger ran')\n    return 0"


def test_a_full_disk_is_not_the_verbs_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "import errno\ndef main(words): raise OSError(errno.ENOSPC, 'No space left on device', *words)"
    install(tmp_path, "far", {"far": "far_away:main"}, group=COMMANDS_GROUP, far_away=text)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert main(["far"]) == main(["far", str(tmp_path / "file")]) == 9
    said = capsys.readouterr().err
    assert "authors" not in said and f"cannot write '{tmp_path / 'file'}'" in said


def test_a_verb_of_two_distributions_is_a_clash_that_names_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(tmp_path, "far", {"merge": "far_verb:main", "own": "far_verb:main"}, group=COMMANDS_GROUP, far_verb=RAN)
    install(tmp_path, "near", {"own": "far_verb:main"}, group=COMMANDS_GROUP)
    for path in (sys.path[0], ""):  # before fttool's own path and after it
        monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path] if path else [*sys.path, str(tmp_path)])
        for verb, owners in (("merge", ("fttool ", "far 1.0")), ("own", ("far 1.0", "near 1.0"))):
            assert main([verb, "--help"]) == 6
            said = capsys.readouterr()
            assert "ran" not in said.out and all(owner in said.err for owner in owners)
            assert f"'{verb}'" in said.err and "pip uninstall" in said.err
        assert lines(capsys)["merge"] == "unusable: two distributions provide it (fttool plugins)"


def test_a_verb_of_core_stays_what_it_is_and_the_claim_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(tmp_path, "far", {"schema": "far_verb:main"}, group=COMMANDS_GROUP, far_verb=RAN)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert main(["schema", "--builtin"]) == 0
    assert "a stranger" not in capsys.readouterr().out
    assert lines(capsys)["schema"] == VERBS["schema"]
    assert main(["plugins", "--json"]) == 0
    (row,) = [row for row in json.loads(capsys.readouterr().out) if row["distribution"] == "far"]
    assert (row["plugin"], row["status"]) == ("schema", "clash") and "is a built-in command" in row["error"]


def test_a_distribution_that_is_listed_twice_is_no_clash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(tmp_path, "far", {"own": "far_verb:main"}, group=COMMANDS_GROUP, far_verb=RAN)
    monkeypatch.setattr(sys, "path", [str(tmp_path), str(tmp_path), *sys.path])
    assert main(["own"]) == 0
    assert "a stranger ran" in capsys.readouterr().out
