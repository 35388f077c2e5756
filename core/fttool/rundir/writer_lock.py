"""One process at a time writes into a run directory: it holds a file there, and says in it which process it is.

The kernel tells a holder that lives from one that is gone (`flock`), and so it does between machines where the shared
disk passes locks on. Where it does not, and for the processes that a dead holder has left after, the content decides:
on the same machine by the process itself, on another one by how long the file has not been touched.
"""

from __future__ import annotations

import json
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from fttool.errors import DiskError, UsageError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

FILE = ".in-use"
BEAT = 20.0
"""Seconds between two signs of life."""
QUIET = 90.0
"""Seconds without one, after which a process of another machine counts as gone whose lock the kernel gives away."""
SILENT = 600.0
"""The same where the kernel does not, as a server may keep the locks of a machine that has crashed."""


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that writes into a run directory."""

    host: str
    pid: int
    started: float
    """When the process began, in seconds since 1970: another one may get its number later."""

    @classmethod
    def here(cls) -> Holder:
        """This process."""
        return cls(socket.gethostname(), os.getpid(), psutil.Process().create_time())

    @classmethod
    def read(cls, file: Path) -> Holder | None:
        """As a file says; None where it is incomplete."""
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            return cls(str(content["host"]), int(content["pid"]), float(content["started"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def runs_here(self) -> bool:
        """True where it is a living process of this machine."""
        try:
            return abs(psutil.Process(self.pid).create_time() - self.started) < 2
        except psutil.Error:
            return False


class Held:
    """A run directory that this process holds until `release`."""

    def __init__(self, folder: Path, handle: int) -> None:
        self.folder = folder
        self._handle = handle
        self._over = threading.Event()
        threading.Thread(target=self._beat, daemon=True, name="fttool-in-use").start()

    @classmethod
    def take(cls, folder: Path, note: Callable[[str], None] = lambda _: None) -> Held:
        """Hold a folder; raises `UsageError` where another living process does, and `OSError` where it cannot write.

        To find out whether a process of another machine lives takes up to `QUIET` seconds; `note` is told.
        """
        file = folder / FILE
        while True:
            handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                locked = _lock(handle)
                _refuse_living(folder, file, locked, note)
                if locked is False:  # the holder is gone, and what it has started still has its lock
                    file.unlink(missing_ok=True)
                elif _same(handle, file):
                    os.ftruncate(handle, 0)
                    os.write(handle, json.dumps(asdict(Holder.here())).encode("utf-8"))
                    os.fsync(handle)
                    return cls(folder, handle)
            except BaseException:
                os.close(handle)
                raise
            os.close(handle)

    def release(self) -> None:
        """Let others have it; the file goes."""
        if self._over.is_set():
            return
        self._over.set()
        with suppress(OSError):
            if self.mine():
                (self.folder / FILE).unlink()
        os.close(self._handle)

    def mine(self) -> bool:
        """True while the folder is where it was, and no other process has taken it over."""
        return _same(self._handle, self.folder / FILE)

    def refuse_loss(self) -> None:
        """Raise `DiskError` where the folder was moved or deleted, or is another process's now."""
        if self._over.is_set() or self.mine():
            return
        moved = self.moved_to()
        if moved is not None:
            message = f"the run directory '{self.folder}' was moved to '{moved}' while the run was writing into it"
            hint = f"it ends here; to go on there: fttool run '{moved / 'recipe.resolved.toml'}' --resume"
            hint += f" --set run.output='{moved.parent}' --set run.name='{moved.name}'"
        elif self.folder.exists() and (holder := Holder.read(self.folder / FILE)) is not None:
            message = f"'{self.folder}' was taken over by process {holder.pid} on {holder.host}"
            hint = "this process was silent for so long that it counted as gone"
        else:
            message = f"the run directory '{self.folder}' was moved away or deleted while the run was writing into it"
            hint = "where it still is: move it back, then fttool run … --resume"
        raise DiskError(message, hint=hint)

    def moved_to(self) -> Path | None:
        """Where the folder is now, if it is not where it was, and the system tells."""
        try:
            now = Path(f"/proc/self/fd/{self._handle}").readlink()
        except OSError:
            return None
        return now.parent if now.name == FILE and now.parent != self.folder.resolve() and now.exists() else None

    def _beat(self) -> None:
        while not self._over.wait(BEAT):
            with suppress(OSError):
                if self.mine():
                    os.utime(self.folder / FILE)


@contextmanager
def writer_lock(folder: Path) -> Generator[None]:
    """Around what writes into a run directory; raises `UsageError` where another process does so."""
    held = Held.take(folder)
    try:
        yield
    finally:
        held.release()


def in_use(folder: Path) -> bool:
    """True where a process writes into a run directory, as far as one can tell who only reads there."""
    file = folder / FILE
    holder = Holder.read(file)
    if holder is None:
        return False
    if holder.host == socket.gethostname():
        return holder.runs_here()
    try:
        return time.time() - file.stat().st_mtime < QUIET
    except FileNotFoundError:
        return False


def _lock(handle: int) -> bool | None:
    """True where the kernel gives the lock, False where another process has it, None where the disk knows no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # ENOLCK, ENOSYS, EOPNOTSUPP: some network disks
        return None
    return True


def _same(handle: int, file: Path) -> bool:
    """True where an open file is still the one of that name."""
    try:
        there, here = file.stat(), os.fstat(handle)
    except OSError:
        return False
    return (there.st_ino, there.st_dev) == (here.st_ino, here.st_dev)


def _refuse_living(folder: Path, file: Path, locked: bool | None, note: Callable[[str], None]) -> None:
    """Raise `UsageError` where the process that a file names lives."""
    holder, hint = Holder.read(file), "one process at a time: wait for it, or stop it; it saves a checkpoint first"
    if holder is None:
        if locked is False:
            raise UsageError(f"another process has just begun to use '{folder}'", hint=hint)
        return
    if holder.host == socket.gethostname():
        lives = locked is not True and holder.runs_here()
    else:
        lives = _gives_signs(holder, file, QUIET if locked else SILENT, note)
        hint = (
            f"one process at a time; its last sign of life is {_silence(file):.0f} seconds old. Should it be gone, "
            f"delete '{file}', or try again once it has been silent for {SILENT / 60:.0f} minutes"
        )
    if lives:
        raise UsageError(f"process {holder.pid} on {holder.host} is writing into '{folder}'", hint=hint)


def _gives_signs(holder: Holder, file: Path, patience: float, note: Callable[[str], None]) -> bool:
    """True where a process of another machine is heard of; where `QUIET` may settle it, that is waited for."""
    silence = _silence(file)
    if silence >= patience or patience > QUIET:
        return silence < patience
    note(f"waiting for a sign of life of process {holder.pid} on {holder.host}, up to {patience - silence:.0f} seconds")
    while silence < patience:
        time.sleep(min(1.0, patience - silence))
        before, silence = silence, _silence(file)
        if silence < before:
            return True
    return False


def _silence(file: Path) -> float:
    """Seconds since a holder's last sign of life, by the clock of the disk, which its machines share."""
    try:
        with tempfile.NamedTemporaryFile(dir=file.parent) as now:
            return os.fstat(now.fileno()).st_mtime - file.stat().st_mtime
    except FileNotFoundError:
        return SILENT
