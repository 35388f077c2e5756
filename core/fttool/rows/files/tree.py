"""A folder of files as one source of rows: what lies below it, unchanged while it is read, and its hash."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from fttool.errors import DataError
from fttool.rows.files.file import CHUNK, steady_file
from fttool.textfile import unreadable


def files_below(folder: Path, *, most: int | None = None) -> list[Path]:
    """Every file below a folder, by path, but for what is hidden; `most` ends the search early.

    Raises:
        DataError: for a folder that cannot be listed, and a link to a folder, which may lead back to where we are.
    """
    files: list[Path] = []
    for entry in folder_entries(folder):
        files += files_below(entry, most=most) if entry.is_dir() else [entry]
        if most is not None and len(files) >= most:
            return files[:most]
    return files


def folder_entries(folder: Path) -> list[Path]:
    """What lies in a folder itself, by name, but for what is hidden; raises `DataError` as `files_below` does."""
    try:
        entries = sorted((e for e in os.scandir(folder) if not e.name.startswith(".")), key=lambda e: e.name)
    except OSError as error:
        raise DataError(unreadable(folder, error)) from None
    links = [Path(entry.path) for entry in entries if entry.is_symlink() and entry.is_dir()]
    if links:
        raise DataError("this is a link to a folder", where=str(links[0]), hint="copy what it leads to, or remove it")
    return [Path(entry.path) for entry in entries]


@contextmanager
def steady_folder(folder: Path) -> Generator[None]:
    """The folder must not change while it is read; raises `DataError` as `steady_file` does for a file."""
    hint = "wait until it is complete, or read a copy"
    changed = DataError("the folder changed while it was read", where=str(folder), hint=hint)
    before = _stamp(folder)
    try:
        yield
    except DataError as broken:
        raise broken if _stamp(folder) == before else changed from None
    if _stamp(folder) != before:
        raise changed


def folder_fingerprint(folder: Path) -> dict[str, str | int]:
    """What `lock.json` notes of a folder: `files`, `bytes`, and the `sha256` over each file's path and content."""
    digest, size, count = hashlib.sha256(), 0, 0
    for file in files_below(folder):
        content = hashlib.sha256()
        with steady_file(file) as stream:
            while chunk := stream.read(CHUNK):
                content.update(chunk)
                size += len(chunk)
        digest.update(f"{file.relative_to(folder).as_posix()}\0{content.hexdigest()}\n".encode())
        count += 1
    return {"sha256": digest.hexdigest(), "bytes": size, "files": count}


def _stamp(folder: Path) -> list[tuple[str, int, int]]:
    """Path, size and time of change of every file."""
    try:
        return [(str(file), (status := file.stat()).st_size, status.st_mtime_ns) for file in files_below(folder)]
    except OSError as error:
        raise DataError(unreadable(folder, error)) from None
