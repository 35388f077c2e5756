"""Which commit a folder is at, read from git's own files.

git is not asked: it would read the folder's `.git/config`, which may name commands (`core.fsmonitor`, filters, hooks),
and a folder with a recipe may come out of an archive of strangers. What only git could tell, whether files differ from
the commit, is left unsaid: the recipe and the hashes of all rows are in the run directory anyway.
The files are those of gitrepository-layout(5).
"""

from __future__ import annotations

import re
from pathlib import Path

_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_LONGEST = 2**24
"""Bytes of a file that are read: repositories with tens of thousands of packed refs stay below."""


def commit(folder: Path) -> str | None:
    """The hash of the commit that is checked out around `folder`; None outside a repository, or before its first."""
    for place in (folder.resolve(), *folder.resolve().parents):
        repository = _repository(place / ".git")
        if repository is not None:
            return _resolved(repository)
    return None


def _repository(dotgit: Path) -> Path | None:
    """The folder with HEAD: `.git` itself, or for worktrees and submodules the one that the file `.git` names."""
    if dotgit.is_file():
        named = re.fullmatch(r"gitdir: (.+)", _text(dotgit).rstrip("\n"))
        dotgit = dotgit.parent / named[1] if named else dotgit
    return dotgit if (dotgit / "HEAD").is_file() else None


def _resolved(repository: Path) -> str | None:
    """HEAD's own hash, or that of the branch that it names."""
    head = _text(repository / "HEAD").strip()
    branch = re.fullmatch(r"ref: (refs/[^\s:?*\[\\^~]+)", head)
    if branch is None or ".." in branch[1]:
        return _hash(head)
    shared = repository
    if (repository / "commondir").is_file():  # a worktree's branches are those of the repository it belongs to
        shared = repository / _text(repository / "commondir").strip()
    for place in (repository, shared):
        commit = _hash(_text(place / branch[1]).strip())
        if commit:
            return commit
    packed = re.search(rf"^(\w+) {re.escape(branch[1])}$", _text(shared / "packed-refs"), re.MULTILINE)
    return _hash(packed[1]) if packed else None


def _hash(text: str) -> str | None:
    return text if _HASH.fullmatch(text) else None


def _text(file: Path) -> str:
    """What it holds; nothing of what is not a file, or too large to be git's."""
    try:
        if not file.is_file() or file.stat().st_size > _LONGEST:
            return ""
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
