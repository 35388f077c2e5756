"""Standard output and error that nobody reads any more: what a verb does goes on without them.

A run costs money, and a `tee`, a log viewer or a terminal may die before it ends, or the disk of its log be full. To
write to one of those is an error, wherever it is written from; so that is caught at the file itself, and from then on
the file leads nowhere. The run directory has all that matters, and says since when nobody reads.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

GONE = (errno.EPIPE, errno.EIO, errno.ENOSPC, errno.EDQUOT)
"""What is answered to a writer by a pipe without a reader, a terminal that has been closed, a log's full disk."""


_LOST: dict[str, str] = {}


def lost_readers() -> Mapping[str, str]:
    """The streams of this process whose readers have gone, and when that was noticed: `{"stderr": "2026-…+00:00"}`."""
    return dict(_LOST)


class _Patient(io.FileIO):
    """A file that leads nowhere once its reader has gone."""

    def __init__(self, name: str, number: int) -> None:
        super().__init__(number, "wb", closefd=False)
        self.stream = name

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in GONE:
                raise
            _lead_nowhere(self.fileno())
            _LOST.setdefault(self.stream, datetime.now(UTC).isoformat(timespec="milliseconds"))
            return memoryview(data).nbytes


@contextmanager
def patient(*names: str) -> Generator[None]:
    """While open, `sys.stdout`, `sys.stderr` or both outlast their readers."""
    before = {name: getattr(sys, name) for name in names}
    _LOST.clear()
    for name, stream in before.items():
        setattr(sys, name, _patient(name, stream))
    try:
        yield
    finally:
        for name, stream in before.items():
            with suppress(ValueError, OSError):  # closed meanwhile, or the disk behind it is full
                getattr(sys, name).flush()
            setattr(sys, name, stream)


def let_go() -> None:
    """Give up what could not be written: Python would try again as it ends, and answer 120 whatever the exit code."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            _lead_nowhere(stream.fileno())
        except ValueError:  # closed meanwhile: nothing is left of it
            continue


def _lead_nowhere(number: int) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)


def _patient(name: str, stream: Any) -> Any:
    """The same file under a patient writer; what is not a file, such as a test's capture, stays what it is."""
    try:
        stream.flush()
        raw = _Patient(name, stream.fileno())
    except (OSError, ValueError, AttributeError):
        return stream
    lines = bool(getattr(stream, "line_buffering", False))
    return io.TextIOWrapper(io.BufferedWriter(raw), stream.encoding, stream.errors, line_buffering=lines)


def fill_gaps() -> None:
    """Let what was closed before the start (`fttool run … >&-`) lead nowhere.

    Else the next file that is opened would be taken for standard output, and written to by whatever prints.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115
