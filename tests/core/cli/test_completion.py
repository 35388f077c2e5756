"""Completion, asked as bash asks for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fttool.cli import VERBS, main
from fttool.cli.completion import SCRIPTS, candidates
from fttool.plugins import Plugins


@pytest.mark.parametrize("shell", SCRIPTS)
def test_a_script_is_one(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "fttool completion words" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script, with an `fttool` on the path that is this one."""
    folder = tmp_path_factory.mktemp("completion")
    (folder / "fttool").write_text(f'#!/bin/sh\nexec {sys.executable} -m fttool "$@"\n')
    (folder / "fttool").chmod(0o755)
    (folder / "fttool.bash").write_text(SCRIPTS["bash"])
    return folder / "fttool.bash"


@pytest.mark.skipif(not shutil.which("bash"), reason="asks bash")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("fttool val", {"validate"}),
        ("fttool run my.toml --res", {"--resume"}),
        ("fttool run my.toml --set optimizer.l", {"optimizer.lr="}),
        ("fttool run my.toml --set schedule.name=co", {"constant", "cosine", "cosine-restarts"}),
        ("fttool plugins show l2-", {"l2-init", "l2-sp"}),
        ("fttool plugins --family sch", {"schedule"}),
        ("fttool run ", set()),
    ],
)
def test_bash_proposes(line: str, expected: set[str], script: Path) -> None:
    ask = (
        f'source {script}; COMP_LINE="{line}"; COMP_POINT=${{#COMP_LINE}}; _fttool; printf "%s\\n" "${{COMPREPLY[@]}}"'
    )
    environment = {**os.environ, "PATH": f"{script.parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", ask], env=environment, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == expected, done.stderr


def test_every_verb_and_every_id_is_proposed() -> None:
    assert set(VERBS) <= set(candidates([""]))
    for family in ("schedule", "optimizer", "freezing"):
        ids = {f"{family}.name={one.id()}" for one in Plugins.of().family(family)}
        assert set(candidates(["run", "my.toml", "--set", f"{family}.name="])) >= ids


def test_every_key_that_is_proposed_is_a_key() -> None:
    keys = set(candidates(["run", "my.toml", "--set", ""]))
    assert {"run.epochs=", "schedule.name=", "evaluation.every=", "data.train.0.path=", "tracking.to="} <= keys
    assert all(key.endswith("=") and " " not in key for key in keys)


def test_another_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["completion", "csh"])
    assert ended.value.code == 2 and "bash" in capsys.readouterr().err
