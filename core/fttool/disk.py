"""Files that are on disk once it is said that they are, and disks that take no more: full, read-only, or failing."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

from fttool.errors import DiskError, FttoolError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

REFUSALS = {
    errno.ENOSPC: "no space is left on the disk",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EIO: "the disk reports an input/output error",
    errno.ESTALE: "the network disk has lost the file",
}
"""What is said of an error that no program can help."""
PROBE_BYTES = 2**20
"""Written and deleted again to ask a disk what is wrong with it."""


def flush(path: Path) -> None:
    """Make sure that a file's content, or a folder's list of names, is on disk; raises `OSError`."""
    if os.name == "nt" and path.is_dir():
        return  # Windows cannot open a folder
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def flush_all(folder: Path) -> None:
    """`flush` for a folder and everything in it."""
    for path in [*folder.rglob("*"), folder]:
        flush(path)


def write_atomically(path: Path, text: str) -> None:
    """Write a text file that is complete, and on disk, once it has its name; raises `DiskError`."""
    aside = path.with_name(f".{path.name}.partial")
    with writing(path, needed=len(text.encode("utf-8"))):
        try:
            aside.write_text(text, encoding="utf-8")
            flush(aside)
            aside.replace(path)
            flush(path.parent)
        except OSError:
            aside.unlink(missing_ok=True)
            raise


def sha256(path: Path) -> str:
    """Hash of a file's content, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def hashes(folder: Path) -> dict[str, str]:
    """`sha256` of every file of a folder, by its path in there."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256(path) for path in files}


def damaged(folder: Path, expected: Mapping[str, str]) -> list[str]:
    """The files of a folder that are missing, or whose hash is not the expected one."""
    return [name for name, digest in expected.items() if _sha256_or_none(folder / name) != digest]


def _sha256_or_none(path: Path) -> str | None:
    try:
        return sha256(path)
    except OSError:
        return None


def bytes_in(folder: Path) -> int:
    """What the files of a folder take, those that vanish meanwhile left out; 0 where there is no folder."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue
    return total


def free_bytes(path: Path) -> int:
    """What this user may still write on the disk on which `path` is, or will be; quotas are not seen."""
    return shutil.disk_usage(nearest(path)).free


@contextmanager
def alone(place: Path) -> Generator[None]:
    """Around making what lies at a path, which no other process does meanwhile; on Windows several may.

    Raises:
        OSError: where the lock, a file beside it, cannot be written.
    """
    with lock_beside(place).open("w") as lock:
        if fcntl is not None:
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def lock_beside(place: Path) -> Path:
    """The file by which `alone` keeps others away."""
    return place.with_name(f".{place.name}.lock")


def user_folder(variable: str, usual: str) -> Path | None:
    """fttool's folder in one of the user's, by the XDG base directories; None for a user without a home.

    That is where the environment's `variable` says, else `usual` in the home directory.
    """
    above = Path(os.environ.get(variable, ""))
    if not above.is_absolute():  # the specification has such a path ignored
        try:
            above = Path.home() / usual
        except RuntimeError:
            return None
    return above / "fttool"


def nearest(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    return next(folder for folder in (path, *path.absolute().parents) if folder.exists())


def size(count: int) -> str:
    """Bytes for people."""
    return f"{count:,} bytes" if count < 10 * 2**20 else f"{count / 2**20:,.0f} MiB"


@contextmanager
def writing(path: Path, *, needed: int = 0, hint: str = "") -> Generator[None]:
    """Around what writes `path`, of about `needed` bytes: raises `DiskError` where it fails because of the disk.

    Libraries hide that reason: torch and safetensors raise errors of their own, some without a word of the disk.
    """
    try:
        yield
    except FttoolError:
        raise
    except Exception as fault:
        error = refusal(fault)
        if error is None and not isinstance(fault, OSError):
            error = _asked(path, needed)
        if error is None:
            raise
        raise disk_error(error, path, needed, hint) from fault


@contextmanager
def told() -> Generator[None]:
    """Around code that may write anywhere: `DiskError`, with the file where that is known, for what a disk refuses."""
    try:
        yield
    except OSError as fault:
        number = refusal(fault)
        if number is None:
            raise
        if fault.filename is None:  # standard output above all
            hint = "free some space, or write elsewhere"
            raise DiskError(f"writing to disk failed: {REFUSALS[number]}", hint=hint) from fault
        raise disk_error(number, Path(str(fault.filename))) from fault


def disk_error(number: int, path: Path, needed: int = 0, hint: str = "") -> DiskError:
    """The error for a disk that refuses `path`, with the bytes that it takes and those that are free."""
    takes = f"it takes about {size(needed)}" if needed else ""
    try:
        free = f"{size(free_bytes(path))} are free" if number in (errno.ENOSPC, errno.EDQUOT) else ""
    except OSError:
        free = ""
    numbers = " and ".join(filter(None, (takes, free)))
    message = f"cannot write '{path}': {REFUSALS[number]}{f'; {numbers}' if numbers else ''}"
    return DiskError(message, hint=hint or "free some space or name another folder: --set run.output=…")


def refusal(fault: BaseException | None) -> int | None:
    """The number, of those in `REFUSALS`, of the error that a disk has answered with; None where it is not to blame."""
    while fault is not None:
        if isinstance(fault, OSError) and fault.errno in REFUSALS:
            return fault.errno
        text = str(fault)
        for number in REFUSALS:
            if f"os error {number})" in text or os.strerror(number) in text:
                return number
        fault = fault.__cause__ or fault.__context__
    return None


def _asked(path: Path, needed: int) -> int | None:
    """What the disk itself says: too few bytes are free, or it refuses to take some."""
    try:
        if free_bytes(path) < needed:
            return errno.ENOSPC
        with tempfile.TemporaryFile(dir=nearest(path)) as file:
            file.write(bytes(PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as fault:
        return fault.errno if fault.errno in REFUSALS else None
    return None
