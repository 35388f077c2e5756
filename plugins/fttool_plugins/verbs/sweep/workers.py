"""Further workers of a sweep on this machine: processes that take trials from the same study."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from fttool.api import ExitCode, show

GRACE = 60
"""Seconds that a worker has to end its update and put its trial back in line; then it is killed."""
COMMAND = (sys.executable, "-m", "fttool", "sweep")
FLAGS = ("--resume", "--quiet", "--worker")


@contextmanager
def workers(words: Sequence[str], number: int) -> Generator[None]:
    """While open, `number` processes make trials, too; at the end they are waited for, or told to stop on an error.

    `words` are those of the command line. SIGTERM, too, ends this process and them in order.
    """
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(ExitCode.PREEMPTED))
    command = [*COMMAND, *words, *FLAGS]
    started = [subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) for _ in range(number)]
    try:
        yield
        for process in started:
            process.wait()
    finally:
        signal.signal(signal.SIGTERM, before)
        for process in started:
            if process.poll() is None:
                process.terminate()
        for process in started:
            try:
                process.wait(timeout=GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
    failed = [process.returncode for process in started if process.returncode]
    if failed:
        show(f"{len(failed)} of {number} further workers ended early, with exit code {failed[0]}", error=True)
