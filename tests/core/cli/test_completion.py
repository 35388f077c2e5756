"""Completion, asked as bash, zsh and fish ask for it."""

from __future__ import annotations

import io
import os
import pty
import re
import select
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fttool.cli import VERBS, main
from fttool.cli.completion import SCRIPTS, candidates
from fttool.plugins import Plugins

LINES = {
    "fttool val": {"validate"},
    "fttool run my.toml --res": {"--resume"},
    "fttool run my.toml --set optimizer.l": {"optimizer.lr="},
    "fttool run my.toml --set schedule.name=co": {
        "schedule.name=constant",
        "schedule.name=cosine",
        "schedule.name=cosine-restarts",
    },
    "fttool plugins show l2-": {"l2-init", "l2-sp"},
    "fttool plugins --family sch": {"schedule"},
}
"""What is typed, and what is proposed for its last word."""
ZSH = """\
PS1=; setopt no_beep; zle_bracketed_paste=()
fpath=("$PWD" $fpath); autoload -Uz compinit; compinit -u -D
compadd() {
    local -a matched; local one
    builtin compadd -O matched "$@"
    for one in $matched; do print -r -- "MATCH[$one]"; done
    builtin compadd "$@"
}
_files() { print -r -- "MATCH[$(echo *)]" }
asked() { autoload -Uz _fttool; _fttool "$@"; print -r -- "THAT IS ALL" }
typed() { print -r -- "LINE[$BUFFER]" }
compdef asked fttool; bindkey '^I' complete-word; zle -N typed; bindkey '^X' typed; print "I AM READY"
"""
"""Tab prints what is proposed, Control-X the line that it has become."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts; `bin` has an `fttool` that is this one, `stub` one that notes what it is asked."""
    folder = tmp_path_factory.mktemp("completion")
    for name, body in (("bin", f'exec {sys.executable} -m fttool "$@"'), ("stub", "cat > words; cat answers")):
        (folder / name).mkdir()
        (folder / name / "fttool").write_text(f"#!/bin/sh\n{body}\n")
        (folder / name / "fttool").chmod(0o755)
    for shell, name in (("bash", "fttool.bash"), ("zsh", "_fttool"), ("fish", "fttool.fish")):
        (folder / name).write_text(SCRIPTS[shell])
    (folder / "setup.zsh").write_text(ZSH)
    return folder


@pytest.fixture
def environment(folder: Path) -> dict[str, str]:
    mine = {"PATH": f"{folder / 'stub'}{os.pathsep}{os.environ['PATH']}", "ZDOTDIR": str(folder), "TERM": "dumb"}
    return {**os.environ, **mine, "XDG_CONFIG_HOME": str(folder), "XDG_DATA_HOME": str(folder)}


@pytest.fixture(params=SCRIPTS)
def shell(request: pytest.FixtureRequest) -> str:
    """Each that is installed; where all are to be tried (`CI` is set, as on a forge) none may be missing."""
    if shutil.which(request.param) is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{request.param} is not installed")
    return request.param


def test_a_script_is_one(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "fttool completion words" in script
    subprocess.run([shell, "-n"], input=script, text=True, check=True)


def by_bash(line: str, folder: Path, environment: dict[str, str]) -> set[str]:
    """bash splits at `=` and puts what is after it in place of what it had there."""
    ask = f'source fttool.bash; COMP_LINE="{line}"; COMP_POINT=${{#COMP_LINE}}; _fttool; '
    ask += 'printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "-c", ask], cwd=folder, env=environment, capture_output=True, text=True, check=True)
    typed, equals, _ = line.rpartition(" ")[2].rpartition("=")
    return {f"{typed}{equals}{word}" for word in done.stdout.split()}


def by_fish(line: str, folder: Path, environment: dict[str, str]) -> set[str]:
    command = ["fish", "--no-config", "-c", f'source fttool.fish; complete -C "{line}"']
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    return {proposed.partition("\t")[0] for proposed in done.stdout.splitlines()}


def by_zsh(line: str, folder: Path, environment: dict[str, str]) -> set[str]:
    """Typed into a terminal, for zsh proposes nothing elsewhere; one word that fits stands in the line at once."""
    terminal, inside = pty.openpty()
    everything = {"stdin": inside, "stdout": inside, "stderr": inside, "start_new_session": True}
    process = subprocess.Popen(["zsh", "-f", "-i"], cwd=folder, env=environment, **everything)
    try:
        os.write(terminal, b". ./setup.zsh\n")
        shown_until(terminal, "I AM READY\r\n")
        os.write(terminal, f"{line}\t".encode())
        found = set(re.findall(r"MATCH\[(.*?)\]", shown_until(terminal, "THAT IS ALL")))
        os.write(terminal, b"\x18")
        (became,) = re.findall(r"LINE\[(.*?)\]", shown_until(terminal, "]\r\n"))
        if line[-1] != " " and len(found) == 1:
            (word,) = found
            assert became == f"{line.rpartition(' ')[0]} {word}{'' if word[-1] == '=' else ' '}"
        return found
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
        os.close(inside)


def shown_until(terminal: int, words: str) -> str:
    shown = b""
    while words.encode() not in shown:
        ready, _, _ = select.select([terminal], [], [], 60)
        assert ready, f"nothing more came after {shown!r}"
        shown += os.read(terminal, 4096)
    return shown.decode()


ASKED = {"bash": by_bash, "zsh": by_zsh, "fish": by_fish}


@pytest.mark.parametrize("line", LINES)
def test_each_shell_hands_on_what_is_typed_and_proposes_what_it_is_told(
    shell: str, line: str, folder: Path, environment: dict[str, str]
) -> None:
    (folder / "answers").write_text("".join(f"{word}\n" for word in sorted(LINES[line])))
    assert ASKED[shell](line, folder, environment) == LINES[line]
    assert (folder / "words").read_text().splitlines() == line.split(" ")[1:]


def test_fttool_itself_is_asked(shell: str, folder: Path, environment: dict[str, str]) -> None:
    environment["PATH"] = f"{folder / 'bin'}{os.pathsep}{environment['PATH']}"
    assert ASKED[shell]("fttool val", folder, environment) == {"validate"}


@pytest.mark.parametrize("line", LINES)
def test_what_is_proposed(line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{word}\n" for word in line.split(" ")[1:])))
    assert main(["completion", "words"]) == 0
    assert set(capsys.readouterr().out.split()) == LINES[line]


def test_files_are_proposed_where_a_recipe_stands(shell: str, folder: Path, environment: dict[str, str]) -> None:
    """By the shell itself: bash is told nothing, and then looks for files (`-o default`)."""
    (folder / "answers").write_text("")
    found = ASKED[shell]("fttool run ", folder, environment)
    assert (folder / "words").read_text() == "run\n\n"
    assert "-o default" in SCRIPTS["bash"] and not found if shell == "bash" else "setup.zsh" in " ".join(found)


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
