"""Checkpoints that are complete or absent.

A checkpoint is written into a folder of another name, listed in a manifest with a hash of every file, and then renamed.
What a crash leaves behind is never taken for a checkpoint, and a damaged file is found before anything is loaded. Of
what a folder is left with, `.….partial` goes when the next checkpoint is written, and the newest `.….damaged` stays.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fttool import disk
from fttool.permissions import apply_umask
from fttool.plain import is_table
from fttool.rundir import signing
from fttool.world import ALONE, World

MANIFEST = "complete.json"
PREFIX = "checkpoint-"
PARTIAL, DAMAGED = ".partial", ".damaged"
"""Endings of hidden folders: what is being written or deleted; a damaged checkpoint whose step was reached again."""
ROOM = "free some space, or lower checkpoints.keep; fttool run … --resume goes on from the newest checkpoint"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A complete checkpoint whose files are what was written."""

    path: Path
    step: int
    progress: Mapping[str, Any]
    """What core counted up to this step."""


def save(
    root: Path,
    step: int,
    write: Callable[[Path], None],
    progress: Mapping[str, Any],
    world: World = ALONE,
    *,
    needed: int = 0,
) -> Path:
    """Let `write` fill a folder, then give it its final name; a crash at any point leaves no half checkpoint.

    All processes write into the one folder, which is named once all have written. Raises `DiskError` where the disk
    takes no more; it then takes about `needed` bytes.
    """
    aside, final = root / f".{PREFIX}{step}{PARTIAL}", root / f"{PREFIX}{step}"
    with disk.writing(final, needed=needed, hint=ROOM):
        try:
            if world.first:
                sweep(root)
                aside.mkdir(parents=True)
            world.barrier()
            write(aside)
            world.barrier()
            if world.first:
                _complete(aside, final, {"step": step, "progress": progress})
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
    world.barrier()
    return final


def sweep(root: Path) -> None:
    """Delete what was being written or deleted when an earlier process ended."""
    for left in root.glob(f".{PREFIX}*{PARTIAL}"):
        shutil.rmtree(left, ignore_errors=True)


def _complete(aside: Path, final: Path, content: dict[str, Any]) -> None:
    """List the files of a folder in its manifest, and give it its final name once all of it is on disk."""
    apply_umask(aside)
    content = {**content, "files": disk.hashes(aside)}
    seal = _seal(content)
    content |= {"sha256": seal, "signature": signing.sign(seal)}
    (aside / MANIFEST).write_text(json.dumps(content, indent=1), encoding="utf-8")
    disk.flush_all(aside)  # before the rename: a power cut must not leave the name without the content
    if final.exists():
        _make_way(final)
    aside.rename(final)
    disk.flush(final.parent)


def _make_way(final: Path) -> None:
    """A run that has gone back reaches a step that has a checkpoint: an intact one is the same; a damaged one is kept.

    Of those only the newest, as each may be as large as all that is of use.
    """
    if isinstance(intact(final.parent, int(final.name.removeprefix(PREFIX))), Checkpoint):
        _delete(final)
        return
    for older in final.parent.glob(f".{PREFIX}*{DAMAGED}"):
        shutil.rmtree(older, ignore_errors=True)
    final.rename(final.with_name(f".{final.name}{DAMAGED}"))


def _delete(path: Path) -> None:
    """Delete a checkpoint; a crash in the middle leaves none that looks damaged."""
    going = path.with_name(f".{path.name}.going{PARTIAL}")
    path.rename(going)
    shutil.rmtree(going, ignore_errors=True)


def steps(root: Path) -> list[int]:
    """Steps of the checkpoints there, intact or not, in order."""
    return sorted(_found(root))


def after(root: Path, step: int) -> list[Path]:
    """The folders of later checkpoints."""
    return [path for number, path in _found(root).items() if number > step]


def intact(root: Path, step: int) -> Checkpoint | str:
    """The checkpoint of a step, or a sentence that says what is wrong with it."""
    path = root / f"{PREFIX}{step}"
    if not path.is_dir():
        return f"there is no {path.name}"
    manifest = _manifest(path)
    if manifest is None:
        return f"{path.name} has no complete {MANIFEST}"
    wrong = disk.damaged(path, manifest["files"])
    if wrong:
        return f"{path.name} is damaged: {', '.join(wrong)}"
    return Checkpoint(path, step, manifest["progress"])


def newest(root: Path, among: Container[int] | None = None) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint that is intact, and a sentence for each newer that is not; of steps `among`, if given."""
    rejected: list[str] = []
    for step in reversed(steps(root)):
        if among is not None and step not in among:
            continue
        checkpoint = intact(root, step)
        if isinstance(checkpoint, Checkpoint):
            return checkpoint, rejected
        rejected.append(checkpoint)
    return None, rejected


def prune(root: Path, keep: int, *, stable: Container[int] = (), keep_stable: int = 0, best: bool = False) -> None:
    """Delete all but the newest `keep` checkpoints, the newest `keep_stable` of the stable phase, and the best ones.

    The best ones are those that a checkpoint which stays counts as the best up to it: who resumes there needs them.
    """
    folders = _found(root)
    newest_first = sorted(folders, reverse=True)
    wanted = {*newest_first[:keep], *[step for step in newest_first if step in stable][:keep_stable]}
    if best:
        manifests = [_manifest(folders[step]) for step in wanted]
        wanted |= {manifest["progress"].get("best_step") for manifest in manifests if manifest is not None}
    for step, path in folders.items():
        if step not in wanted:
            _delete(path)


def link(checkpoint: Checkpoint, root: Path) -> None:
    """The same checkpoint under another root, complete or absent: hard links, or copies where there can be none.

    No file of a checkpoint is ever written again, so to share one is safe; each root may delete its own.
    """
    aside = root / f".{checkpoint.path.name}.partial"
    shutil.rmtree(aside, ignore_errors=True)
    shutil.copytree(checkpoint.path, aside, copy_function=_link_or_copy)
    disk.flush_all(aside)
    aside.rename(root / checkpoint.path.name)
    disk.flush(root)


def processes(checkpoint: Checkpoint) -> int:
    """How many have saved it: each leaves the state of what it draws at random."""
    return len(list(checkpoint.path.glob("rng_state*.pth")))


def seal(checkpoint: Checkpoint) -> str:
    """The hash that stands for everything in a checkpoint."""
    return json.loads((checkpoint.path / MANIFEST).read_text(encoding="utf-8"))["sha256"]


def is_own(path: Path) -> bool:
    """True where this user has written the manifest of a checkpoint, and with it the hashes of its files."""
    try:
        content: Any = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return is_table(content) and signing.is_signed(str(content.get("sha256")), content.get("signature"))


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copy2(source, target)


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
    counted = {key: value for key, value in content.items() if key not in ("sha256", "signature")}
    return counted if content.get("sha256") == _seal(counted) else None


def _seal(content: Mapping[str, Any]) -> str:
    """A hash of the manifest's own content: the hashes of the files say nothing about what was counted."""
    return hashlib.sha256(json.dumps(content).encode("utf-8")).hexdigest()
