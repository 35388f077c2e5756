"""The commit of a folder is git's own answer, and nothing that the folder's configuration names is run."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from fttool.rundir.commit import commit

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git itself is the oracle")

CALM = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull, "GIT_CONFIG_COUNT": "2"} | {
    "GIT_CONFIG_KEY_0": "user.name",
    "GIT_CONFIG_VALUE_0": "A",
    "GIT_CONFIG_KEY_1": "user.email",
    "GIT_CONFIG_VALUE_1": "a@b.c",
}


def git(folder: Path, *words: str) -> str:
    environment = {**os.environ, **CALM}
    return subprocess.run(
        ["git", *words], cwd=folder, env=environment, check=True, capture_output=True, text=True
    ).stdout.strip()


def packed(folder: Path) -> Path:
    git(folder, "pack-refs", "--all")
    return folder


def detached(folder: Path) -> Path:
    git(folder, "checkout", "-q", "--detach")
    return folder


def inner(folder: Path) -> Path:
    (folder / "a" / "b").mkdir(parents=True)
    return folder / "a" / "b"


def worktree(folder: Path) -> Path:
    git(folder, "worktree", "add", "-q", "-b", "topic/one", str(folder.parent / "beside"))
    git(folder.parent / "beside", "commit", "-q", "--allow-empty", "-m", "second")
    return folder.parent / "beside"


def packed_worktree(folder: Path) -> Path:
    return packed(worktree(folder))


def one_that_git_has_moved_on_from_packed(folder: Path) -> Path:
    packed(folder)
    git(folder, "commit", "-q", "--allow-empty", "-m", "second")
    return folder


def submodule(folder: Path) -> Path:
    git(folder, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(folder), "part")
    return folder / "part"


@pytest.mark.parametrize(
    "shape",
    [
        lambda folder: folder,
        packed,
        detached,
        inner,
        worktree,
        packed_worktree,
        one_that_git_has_moved_on_from_packed,
        submodule,
    ],
)
def test_it_is_what_git_says(shape: Callable[[Path], Path], tmp_path: Path) -> None:
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q")
    assert commit(folder) is None  # no commit yet
    git(folder, "commit", "-q", "--allow-empty", "-m", "first")
    place = shape(folder)
    found = commit(place)
    assert found is not None and found == git(place, "rev-parse", "HEAD")


def test_nothing_runs_that_the_folder_names(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "first")
    for key in ("core.fsmonitor", "core.sshCommand", "core.pager", "core.editor", "diff.external", "gpg.program"):
        git(tmp_path, "config", key, f"touch {tmp_path / 'ran'}; false")
    hook = tmp_path / ".git" / "hooks" / "post-index-change"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path / 'ran'}\n")
    hook.chmod(0o755)
    assert commit(tmp_path) == git(tmp_path, "-c", "core.fsmonitor=", "rev-parse", "HEAD")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "head",
    ["", "ref: ../../secret\n", "ref: refs/../../secret\n", "not a hash\n", "\x00" * 40, "ref: refs/heads/gone\n"],
)
def test_a_head_that_names_no_commit_is_none(head: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("a" * 40)
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "HEAD").write_text(head)
    assert commit(tmp_path) is None
