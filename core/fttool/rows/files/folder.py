"""Rows out of a folder of text files: one row a file, labelled with the name of the folder that it lies in.

    mails/ham/0001.txt  →  {"text": "…", "label": "ham"}

Files that lie in the folder itself have no label. Hidden files and folders are not rows.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path

from fttool.errors import DataError
from fttool.rows.files.file import CHUNK, steady
from fttool.textfile import unreadable

NO_TEXTS = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".arrow", ".gz", ".zst", ".zip", ".tar", ".tgz")
"""Suffixes of files that hold many rows, or are packed: read as one text, they would teach their punctuation."""


def folder_rows(
    folder: Path, encodings: Sequence[str], max_bytes: int, took: Counter[str]
) -> Iterator[tuple[Path, dict[str, str]]]:
    """Yield (file, row): a file of each label in turn, so that the first rows hold all labels; in order of their paths.

    Each file is read in the first of `encodings` that it fits; `took` counts how many each of them read.

    Raises:
        DataError: for a folder without files or with files both beside and inside folders, and a file that fits no
            encoding, holds NUL characters, is longer than `max_bytes`, or cannot be read.
    """
    by_label = {label: iter(files) for label, files in _files(folder).items()}
    for files in zip_longest(*by_label.values()):
        for label, file in zip(by_label, files, strict=True):
            if file is not None:
                text = _text(file, encodings, max_bytes, took)
                yield file, {"text": text, **({"label": label} if label else {})}


@contextmanager
def steady_folder(folder: Path) -> Generator[None]:
    """The folder must not change while it is read; raises `DataError` as `steady` does for a file."""
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
    for file in _all_files(folder):
        content = hashlib.sha256()
        with steady(file) as stream:
            while chunk := stream.read(CHUNK):
                content.update(chunk)
                size += len(chunk)
        digest.update(f"{file.relative_to(folder).as_posix()}\0{content.hexdigest()}\n".encode())
        count += 1
    return {"sha256": digest.hexdigest(), "bytes": size, "files": count}


def _files(folder: Path) -> dict[str, list[Path]]:
    """The files of each label; of the label "" where they lie in the folder itself."""
    files: dict[str, list[Path]] = {}
    for entry in _entries(folder):
        label = entry.name if entry.is_dir() else ""
        files.setdefault(label, []).extend(_all_files(entry) if label else [entry])
    if not files:
        raise DataError("the folder is empty", where=str(folder), hint="a folder per label, a text file per row")
    empty = [label for label, texts in files.items() if not texts]
    if empty:
        hint = "put its rows there, or remove it"
        raise DataError("the folder of this label is empty", where=str(folder / empty[0]), hint=hint)
    if "" in files and len(files) > 1:
        hint = "move it into the folder of its label, or out of the way"
        raise DataError("this file lies beside the folders of the labels", where=str(files[""][0]), hint=hint)
    return files


def _all_files(folder: Path) -> list[Path]:
    """Every file below a folder, by path."""
    files: list[Path] = []
    for entry in _entries(folder):
        files += _all_files(entry) if entry.is_dir() else [entry]
    return files


def _entries(folder: Path) -> list[Path]:
    """What lies in a folder, by name, but for what is hidden."""
    try:
        entries = sorted((e for e in os.scandir(folder) if not e.name.startswith(".")), key=lambda e: e.name)
    except OSError as error:
        raise DataError(unreadable(folder, error)) from None
    links = [Path(entry.path) for entry in entries if entry.is_symlink() and entry.is_dir()]
    if links:  # it may lead back to where we come from
        raise DataError("this is a link to a folder", where=str(links[0]), hint="copy what it leads to, or remove it")
    return [Path(entry.path) for entry in entries]


def _text(file: Path, encodings: Sequence[str], max_bytes: int, took: Counter[str]) -> str:
    if file.suffix.lower() in NO_TEXTS:
        hint = "does it hold rows? name it as the path, not the folder; or move it out of the folder"
        raise DataError(f"by its name this is not a text file ({file.suffix})", where=str(file), hint=hint)
    with steady(file) as stream:
        raw = stream.read(max_bytes + 1)
    if len(raw) > max_bytes:
        raise DataError(f"the file is longer than {max_bytes:,} bytes", where=str(file), hint="split it")
    for encoding in encodings:
        try:
            text = raw.decode("utf-8-sig" if encoding == "utf-8" else encoding)
        except UnicodeDecodeError:
            continue
        if "\0" in text:
            raise DataError("the text contains a NUL character", where=str(file), hint="is it a text file?")
        took[encoding] += 1
        return text
    tried = " nor in ".join(encodings)
    more = ", ".join(f'"{tried_next}"' for tried_next in (*encodings, "windows-1252", "latin-1"))
    hint = f"convert it, or set encodings = [{more}] beside its path: the first that fits is taken, and counted"
    raise DataError(f"the file is not in {tried}", where=str(file), hint=hint)


def _stamp(folder: Path) -> list[tuple[str, int, int]]:
    """Path, size and time of change of every file."""
    try:
        return [(str(file), (status := file.stat()).st_size, status.st_mtime_ns) for file in _all_files(folder)]
    except OSError as error:
        raise DataError(unreadable(folder, error)) from None
