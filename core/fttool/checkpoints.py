"""Checkpoints that are complete or absent.

A checkpoint is written into a folder of another name, listed in a manifest with a hash of every file, and then renamed.
What a crash leaves behind is never taken for a checkpoint, and a damaged file is found before anything is loaded.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fttool.plain import is_table

MANIFEST = "complete.json"
PREFIX = "checkpoint-"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A complete checkpoint whose files are what was written."""

    path: Path
    step: int
    progress: Mapping[str, Any]
    """What core counted up to this step."""


def save(root: Path, step: int, write: Callable[[Path], None], progress: Mapping[str, Any]) -> Path:
    """Let `write` fill a folder, then give it its final name; a crash at any point leaves no half checkpoint."""
    aside = root / f".{PREFIX}{step}.partial"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    write(aside)
    files = {path.relative_to(aside).as_posix(): _hash(path) for path in sorted(aside.rglob("*")) if path.is_file()}
    manifest = aside / MANIFEST
    content = {"step": step, "progress": progress, "files": files}
    manifest.write_text(json.dumps({**content, "sha256": _seal(content)}, indent=1), encoding="utf-8")
    for path in [*aside.rglob("*"), aside]:
        _flush(path)
    final = root / f"{PREFIX}{step}"
    if final.exists():  # a resumed run reaches a step that a damaged checkpoint already occupies
        final.rename(root / f".{PREFIX}{step}.damaged")
    aside.rename(final)
    _flush(root)
    return final


def newest(root: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint that is whole, and a sentence for each newer one that is not."""
    rejected: list[str] = []
    for step, path in sorted(_found(root).items(), reverse=True):
        manifest = _manifest(path)
        if manifest is None:
            rejected.append(f"{path.name} has no whole {MANIFEST}")
            continue
        wrong = [name for name, digest in manifest["files"].items() if _hash_or_none(path / name) != digest]
        if wrong:
            rejected.append(f"{path.name} is damaged: {', '.join(wrong)}")
            continue
        return Checkpoint(path, step, manifest["progress"]), rejected
    return None, rejected


def prune(root: Path, keep: int, best: int | None) -> None:
    """Delete all but the newest `keep` checkpoints and the best one."""
    found = _found(root)
    for step in sorted(found)[:-keep]:
        if step != best:
            shutil.rmtree(found[step])


def _found(root: Path) -> dict[int, Path]:
    names = {path: re.fullmatch(rf"{PREFIX}(\d+)", path.name) for path in root.glob(f"{PREFIX}*")}
    return {int(match[1]): path for path, match in names.items() if match}


def _manifest(checkpoint: Path) -> dict[str, Any] | None:
    """The manifest as it was written; None where it is missing, unreadable, or another."""
    try:
        content: Any = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not is_table(content):
        return None
    counted = {key: value for key, value in content.items() if key != "sha256"}
    return counted if content.get("sha256") == _seal(counted) else None


def _seal(content: Mapping[str, Any]) -> str:
    """A hash of the manifest's own content: the hashes of the files say nothing about what was counted."""
    return hashlib.sha256(json.dumps(content).encode("utf-8")).hexdigest()


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _hash_or_none(path: Path) -> str | None:
    return _hash(path) if path.is_file() else None


def _flush(path: Path) -> None:
    """Make sure that what was written is on disk before the rename that vouches for it."""
    if os.name == "nt" and path.is_dir():
        return  # Windows cannot open a folder
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
