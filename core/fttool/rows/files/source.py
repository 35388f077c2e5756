"""What a dataset's `path` names: files and folders, read by a reader, unchanged meanwhile, and their hash."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fttool.contracts.recipe import ADDRESS
from fttool.contracts.rows import RawRows, Reader, ReaderContext
from fttool.errors import DataError, Problem
from fttool.plugins import Plugins
from fttool.rows.files.file import CHUNK, steady_file
from fttool.rows.files.remote import fetched
from fttool.rows.files.tree import files_below, folder_fingerprint, steady_folder
from fttool.textfile import obstacle

WILDCARDS = "*?["
"""What makes a path a pattern, unless a file or folder of that very name exists."""


def named_paths(folder: Path, patterns: Sequence[str]) -> list[Path]:
    """The files and folders that a dataset's `path` names, each once; those of one pattern by name.

    Raises:
        DataError: for a pattern that fits nothing, and an address that cannot be fetched.
    """
    paths: dict[Path, None] = {}
    for pattern in patterns:
        if ADDRESS.match(pattern):
            paths.update(dict.fromkeys(fetched(pattern)))
            continue
        path = folder / Path(pattern).expanduser()
        if not any(sign in pattern for sign in WILDCARDS) or path.exists():
            paths[path] = None
            continue
        fitting = sorted(_fitting(path))
        if not fitting:
            raise DataError(Problem("no file fits this pattern", str(path), _fits_nothing(path)))
        paths.update(dict.fromkeys(fitting))
    return list(paths)


def read_rows(path: Path, reader: Reader | None = None) -> RawRows:
    """Yield (origin, raw row) of a file or folder; without a `reader` by the one that a recipe has which names none.

    Raises:
        DataError: while iterating, for a path that cannot be read and the first row that is broken.
    """
    return (reader or default_reader()).build(ReaderContext())(path)


def default_reader() -> Reader:
    """The reader of a recipe that names none."""
    readers = Plugins.discover().family(Reader.family)
    (kind,) = (reader for reader in readers if issubclass(reader, Reader) and reader.id() == Reader.place.default)
    return kind()


@contextmanager
def unchanged(paths: Sequence[Path]) -> Generator[None]:
    """Around the reading of rows and of their fingerprint: raises `DataError` where a path changes meanwhile."""
    with ExitStack() as all_steady:
        for path in paths:
            all_steady.enter_context(steady_folder(path) if path.is_dir() else steady_file(path))
        yield


def fingerprint(path: Path) -> Mapping[str, str | int]:
    """What `lock.json` notes of rows: `sha256` (hex) and `bytes` as they lie on disk, and of a folder its `files`.

    Raises:
        DataError: for what cannot be read, or changes while it is read.
    """
    if path.is_dir():
        return folder_fingerprint(path)
    digest, size = hashlib.sha256(), 0
    with steady_file(path) as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return {"sha256": digest.hexdigest(), "bytes": size}


def fingerprint_of(paths: Sequence[Path]) -> Mapping[str, str | int]:
    """The same of one path, or of several together: the `sha256` of theirs in their order."""
    if len(paths) == 1:
        return fingerprint(paths[0])
    each = [fingerprint(path) for path in paths]
    digest = hashlib.sha256("\n".join(str(one["sha256"]) for one in each).encode())
    size, files = (sum(int(one.get(key, default)) for one in each) for key, default in (("bytes", 0), ("files", 1)))
    return {"sha256": digest.hexdigest(), "bytes": size, "files": files}


def _fitting(pattern: Path) -> Iterator[Path]:
    """What fits, but for what is hidden; `**` stands for any number of folders."""
    parts = pattern.parts
    first = next(index for index, part in enumerate(parts) if any(sign in part for sign in WILDCARDS))
    base = Path(*parts[:first])
    for path in base.glob(str(Path(*parts[first:]))):
        if not any(part.startswith(".") for part in path.relative_to(base).parts):
            yield path


def _fits_nothing(pattern: Path) -> str:
    """What lies where the pattern looks."""
    parts = pattern.parts
    first = next(index for index, part in enumerate(parts) if any(sign in part for sign in WILDCARDS))
    base = Path(*parts[:first])
    if not base.is_dir():
        problem = obstacle(base)
        return problem.hint if problem is not None else f"'{base}' is a file, not a folder"
    names = ", ".join(f"'{path.name}'" for path in files_below(base, most=5))
    return f"'{base}' has {names}" if names else f"'{base}' is empty"
